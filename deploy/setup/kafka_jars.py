"""Kafka's jars: fetched once by Maven, from where this host's Maven is configured to fetch, and kept."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.setup.java import find_java

POM = Path(__file__).parents[1] / "stack" / "kafka-jars" / "pom.xml"
_STAMP_CHARS = 12


def cache_directory() -> Path:
    """Where what was fetched is kept: HUB_CACHE_DIR, else the system's cache for root and the user's for others."""
    if given := os.environ.get("HUB_CACHE_DIR"):
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/cache/bv-iot-control-hub")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bv-iot-control-hub"


def jar_directory() -> Path:
    """The directory of the jars of exactly this pom; it exists only when complete."""
    stamp = hashlib.sha256(POM.read_bytes()).hexdigest()[:_STAMP_CHARS]
    return cache_directory() / f"kafka-{stamp}"


def fetch_jars() -> Path:
    """Fetch the jars unless they are there. Raises CalledProcessError if Maven fails; then its words go to stderr."""
    target = jar_directory()
    if target.exists():
        return target
    if not target.parent.exists():
        target.parent.mkdir(parents=True)
        target.parent.chmod(0o755)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    command = ["mvn", "-B", "-q", "-Dstyle.color=never", "-f", str(POM), f"-DoutputDirectory={unfinished}"]
    java = find_java()
    home = {"JAVA_HOME": str(java.resolve().parents[1])} if java else {}
    try:
        done = subprocess.run(
            [*command, "dependency:copy-dependencies"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | home,
            check=False,
        )
        if done.returncode != 0:
            sys.stderr.buffer.write(done.stdout)
            raise subprocess.CalledProcessError(done.returncode, command)
        readable(unfinished)
        if not target.exists():  # somebody else may have been quicker
            unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def readable(folder: Path) -> None:
    """Let everybody read a folder of ours and what is in it, whatever the umask was."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))
