"""The virtual environment of the checkout: `.venv`, exactly what the lock file says, and the project itself.

Promises: done again only when an input changed (lock file, pyproject, Python); every package is checked against its
hash. From where packages come is this host's configuration.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def stamp(checkout: Path, python: str) -> str:
    """The inputs in one word."""
    digest = hashlib.sha256(python.encode())
    for path in (checkout / "deploy" / "requirements" / "dev.txt", checkout / "pyproject.toml"):
        digest.update(path.read_bytes())
    digest.update(str(checkout).encode())  # scripts in it name their interpreter by its full path
    return digest.hexdigest()


def make_venv(say: Callable[[str], None], checkout: Path = CHECKOUT) -> None:
    """Make or mend `.venv`; nothing to do if its stamp is right. Raises CalledProcessError if pip fails."""
    venv = checkout / ".venv"
    stamp_file = venv / "set-up-stamp"
    wanted = stamp(checkout, sys.version)
    if stamp_file.exists() and stamp_file.read_text(encoding="ascii") == wanted:
        return
    stamp_file.unlink(missing_ok=True)
    python = venv / "bin" / "python"
    if not _usable(python):
        say("making .venv")
        shutil.rmtree(venv, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(venv)], checkout)
    say("installing the pinned packages into .venv (the first time takes a minute or two)")
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-qq"]
    _run([*pip, "--require-hashes", "-r", "deploy/requirements/dev.txt"], checkout)
    _run([*pip, "--no-deps", "--no-build-isolation", "-e", "."], checkout)
    stamp_file.write_text(wanted, encoding="ascii")


def _usable(python: Path) -> bool:
    """Whether it is a working environment of the Python that runs us."""
    if not python.exists():
        return False
    ask = [str(python), "-c", "import sys, pip; print(sys.version)"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.rstrip("\n") == sys.version


def _run(command: list[str], checkout: Path) -> None:
    subprocess.run(command, cwd=checkout, stdin=subprocess.DEVNULL, stdout=2, check=True)
