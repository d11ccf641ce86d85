"""What of the system's packages is missing, and installing it.

Promises: asks for a password only on a terminal; otherwise says the one line to run. Which host is supported matters
only when something is missing.
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.setup.java import find_java
from deploy.setup.kafka_jars import jar_directory

INSTALL = Path(__file__).with_name("install.sh")
_OLDEST = {"debian": (12,), "ubuntu": (24, 4)}
_MACHINES = ("x86_64", "aarch64")
_PLUGINS = ("usr/lib/*/mosquitto_dynamic_security.so", "usr/lib/mosquitto_dynamic_security.so")


class NotReady(Exception):  # noqa: N818 - it is an answer to the person, not a failure of ours
    """Something must be done by hand; the message says what, in one sentence or one line."""


def missing_for_venv() -> list[str]:
    """Packages without which no virtual environment can be made."""
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        return []
    return [f"python{sys.version_info.major}.{sys.version_info.minor}-venv"]


def missing_for_stack() -> list[str]:
    """Packages without which the local servers cannot run; any Java of at least 17 will do."""
    missing = []
    if not (_found("mosquitto") and any(True for pattern in _PLUGINS for _ in Path("/").glob(pattern))):
        missing.append("mosquitto")
    if not _found("mosquitto_pub"):
        missing.append("mosquitto-clients")
    if find_java() is None:
        missing.append("default-jre-headless")
    if not _found("mvn") and not jar_directory().exists():
        missing.append("maven")
    return missing


def install(packages: list[str], say: Callable[[str], None]) -> None:
    """Install them. Raises CalledProcessError if apt fails, NotReady if this host cannot or needs a person for it."""
    if reason := unsupported(platform.machine(), os_release()):
        raise NotReady(f"{reason}; what is missing here: {', '.join(packages)}.")
    line = ["sh", str(INSTALL), *packages]
    prefix = become_root(os.geteuid(), interactive=sys.stdin is not None and sys.stdin.isatty())
    if prefix is None:
        raise NotReady(f"Packages are missing. Run this once, then try again:\n  sudo {' '.join(line)}")
    say(f"installing {', '.join(packages)}")
    subprocess.run([*prefix, *line], stdin=None if prefix == ["sudo"] else subprocess.DEVNULL, stdout=2, check=True)


def become_root(uid: int, *, interactive: bool) -> list[str] | None:
    """What to put before a command to run it as root; None if that would ask somebody who is not there."""
    if uid == 0:
        return []
    if not _found("sudo"):
        return None
    if subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0:
        return ["sudo", "-n"]
    return ["sudo"] if interactive else None


def unsupported(machine: str, release: Mapping[str, str]) -> str | None:
    """Why packages cannot be installed on such a host, as the beginning of a sentence; None if they can."""
    supported = "Debian 12 or Ubuntu 24.04 or later on x86-64 or arm64"
    system, version = release.get("ID", "an unknown system"), release.get("VERSION_ID", "")
    oldest = _OLDEST.get(system)
    if oldest is None or machine not in _MACHINES:
        return f"Set-up installs packages on {supported} only, and this is {system} {version} on {machine}"
    if version and tuple(int(part) for part in version.split(".") if part.isdigit()) < oldest:
        return f"Set-up needs {supported}, and this is {system} {version}"
    return None


def os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """The host's description of itself; empty if it has none."""
    if not path.exists():
        return {}
    pairs = (line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
    return {name: value.strip("\"'") for name, value in pairs}


def _found(name: str) -> bool:
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    return shutil.which(name, path=search) is not None
