"""The environment is made again when an input changed, and only then."""

import sys
from pathlib import Path

import pytest

from deploy.setup import venv


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "deploy" / "requirements").mkdir(parents=True)
    (tmp_path / "deploy" / "requirements" / "dev.txt").write_text("a==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []
    monkeypatch.setattr(venv, "_run", lambda command, _: commands.append(command))
    return commands


def _make(checkout: Path) -> None:
    (checkout / ".venv").mkdir(exist_ok=True)
    venv.make_venv(lambda _: None, checkout)


def test_every_input_counts(checkout: Path) -> None:
    stamps = {venv.stamp(checkout, "3.11"), venv.stamp(checkout, "3.12")}
    (checkout / "pyproject.toml").write_text("[project]\nname='x'\n")
    stamps.add(venv.stamp(checkout, "3.11"))
    (checkout / "deploy" / "requirements" / "dev.txt").write_text("a==2\n")
    stamps.add(venv.stamp(checkout, "3.11"))
    assert len(stamps) == 4


def test_pinned_with_hashes_and_the_project_itself(
    checkout: Path, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venv, "_usable", lambda _: True)
    _make(checkout)
    assert [command[-3:] for command in ran] == [
        ["--require-hashes", "-r", "deploy/requirements/dev.txt"],
        ["--no-build-isolation", "-e", "."],
    ]
    _make(checkout)
    assert len(ran) == 2
    (checkout / "pyproject.toml").write_text("changed")
    _make(checkout)
    assert len(ran) == 4


def test_an_interrupted_run_is_done_again(
    checkout: Path, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venv, "_usable", lambda _: True)
    _make(checkout)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    (checkout / "pyproject.toml").write_text("changed")
    monkeypatch.setattr(venv, "_run", fail)
    with pytest.raises(KeyboardInterrupt):
        _make(checkout)
    assert not (checkout / ".venv" / "set-up-stamp").exists()


def test_an_environment_of_another_python_is_not_usable(tmp_path: Path) -> None:
    assert not venv._usable(tmp_path / "python")
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 3.9.0\n")
    other.chmod(0o755)
    assert not venv._usable(other)
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    assert venv._usable(other)
