"""What is missing, on which hosts it is installed, and that nobody is asked who is not there."""

import subprocess
from pathlib import Path

import pytest

from deploy.setup import packages
from deploy.setup.packages import NotReady


@pytest.mark.parametrize(
    ("machine", "system", "version"),
    [
        ("x86_64", "debian", "12"),
        ("aarch64", "debian", "13"),
        ("x86_64", "ubuntu", "24.04"),
        ("x86_64", "debian", ""),
    ],
)
def test_supported(machine: str, system: str, version: str) -> None:
    assert packages.unsupported(machine, {"ID": system, "VERSION_ID": version}) is None


@pytest.mark.parametrize(
    ("machine", "system", "version"),
    [
        ("x86_64", "debian", "11"),
        ("x86_64", "ubuntu", "22.04"),
        ("x86_64", "ubuntu", "23.10"),
        ("x86_64", "fedora", "42"),
        ("armv7l", "debian", "12"),
    ],
)
def test_not_supported_and_said_in_one_sentence(machine: str, system: str, version: str) -> None:
    reason = packages.unsupported(machine, {"ID": system, "VERSION_ID": version})
    assert reason is not None
    assert system in reason
    assert ". " not in reason


def test_a_host_without_description() -> None:
    assert packages.os_release(Path("/nonexistent")) == {}
    assert packages.unsupported("x86_64", {}) is not None


def test_the_hosts_description_is_read(tmp_path: Path) -> None:
    (tmp_path / "os").write_text('ID=ubuntu\nVERSION_ID="24.04"\n\n# remark\n')
    assert packages.os_release(tmp_path / "os") == {"ID": "ubuntu", "VERSION_ID": "24.04"}


def _sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    program = tmp_path / "sudo"
    program.write_text(f"#!/bin/sh\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_root_needs_nothing() -> None:
    assert packages.become_root(0, interactive=False) == []


def test_sudo_without_a_password_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _sudo(tmp_path, monkeypatch, 0)
    assert packages.become_root(1000, interactive=False) == ["sudo", "-n"]


def test_a_password_is_asked_for_on_a_terminal_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _sudo(tmp_path, monkeypatch, 1)
    assert packages.become_root(1000, interactive=True) == ["sudo"]
    assert packages.become_root(1000, interactive=False) is None


@pytest.mark.skipif(Path("/usr/bin/sudo").exists(), reason="this host has sudo")
def test_without_sudo_there_is_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert packages.become_root(1000, interactive=True) is None


def test_the_line_to_run_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "unsupported", lambda *_: None)
    monkeypatch.setattr(packages, "become_root", lambda *_, **__: None)
    with pytest.raises(NotReady, match=r"sudo sh .*/install.sh mosquitto maven$"):
        packages.install(["mosquitto", "maven"], pytest.fail)


def test_an_unsupported_host_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "os_release", lambda: {"ID": "fedora"})
    with pytest.raises(NotReady, match=r"fedora.*what is missing here: mosquitto\.$"):
        packages.install(["mosquitto"], pytest.fail)


def test_nothing_present_means_all_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_found", lambda _: False)
    monkeypatch.setattr(packages, "find_java", lambda: None)
    monkeypatch.setattr(packages, "jar_directory", lambda: tmp_path / "absent")
    assert packages.missing_for_stack() == ["mosquitto", "mosquitto-clients", "default-jre-headless", "maven"]
    monkeypatch.setattr(packages, "jar_directory", lambda: tmp_path)
    assert "maven" not in packages.missing_for_stack()


class TestInstallScript:
    """The script on programs that only write down how they were called."""

    @pytest.fixture
    def calls(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        calls = tmp_path / "calls"
        for name in ("apt-get", "systemctl", "update-rc.d", "invoke-rc.d"):
            program = tmp_path / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(f'#!/bin/sh\necho "{name} $*" >> {calls}\n')
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
        return calls

    def _run(self, tmp_path: Path, installed: str, *wanted: str) -> "subprocess.CompletedProcess[str]":
        query = tmp_path / "bin" / "dpkg-query"
        query.write_text(f'#!/bin/sh\nfor p; do :; done\n[ "$p" = "{installed}" ] && echo installed || exit 1\n')
        query.chmod(0o755)
        script = tmp_path / "install.sh"
        policy = tmp_path / "policy-rc.d"
        script.write_text(packages.INSTALL.read_text().replace("/usr/sbin/policy-rc.d", str(policy)))
        return subprocess.run(["sh", str(script), *wanted], capture_output=True, text=True, check=True)

    def test_a_new_mosquitto_is_never_a_service(self, calls: Path, tmp_path: Path) -> None:
        apt = tmp_path / "bin" / "apt-get"
        apt.write_text(apt.read_text() + f"cat {tmp_path}/policy-rc.d >> {calls}\n")
        self._run(tmp_path, "none", "mosquitto", "maven")
        said = calls.read_text()
        assert "install mosquitto maven" in said
        assert '[ "$1" = mosquitto ] && exit 101' in said  # the policy stood while apt ran
        assert "systemctl --quiet disable mosquitto.service" in said
        assert not (tmp_path / "policy-rc.d").exists()

    def test_one_that_was_there_is_left_alone(self, calls: Path, tmp_path: Path) -> None:
        self._run(tmp_path, "mosquitto", "mosquitto", "maven")
        assert "systemctl" not in calls.read_text()

    def test_other_packages_touch_no_service(self, calls: Path, tmp_path: Path) -> None:
        self._run(tmp_path, "none", "maven")
        assert "systemctl" not in calls.read_text()

    def test_the_hosts_own_policy_stays(self, calls: Path, tmp_path: Path) -> None:
        (tmp_path / "policy-rc.d").write_text("#!/bin/sh\nexit 0\n")
        self._run(tmp_path, "none", "mosquitto")
        assert (tmp_path / "policy-rc.d").read_text() == "#!/bin/sh\nexit 0\n"
        assert "disable mosquitto.service" in calls.read_text()

    def test_a_policy_left_by_a_killed_run_is_removed(self, calls: Path, tmp_path: Path) -> None:
        (tmp_path / "policy-rc.d").write_text("# written by deploy/setup/install.sh\n")
        self._run(tmp_path, "none", "maven")
        assert not (tmp_path / "policy-rc.d").exists()

    def test_a_failed_install_leaves_no_policy(self, calls: Path, tmp_path: Path) -> None:
        (tmp_path / "bin" / "apt-get").write_text("#!/bin/sh\nexit 100\n")
        with pytest.raises(subprocess.CalledProcessError):
            self._run(tmp_path, "none", "mosquitto")
        assert not (tmp_path / "policy-rc.d").exists()
