"""What this host offers a server of ours: an unprivileged account, ports, programs.

Promises: nothing outside our own directories is changed. Leaves installing what is missing to `deploy.setup`.
"""

import fcntl
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.setup.kafka_jars import readable
from shared.errors import Permanent

UNPRIVILEGED_USER = "nobody"
FIRST_PORT, LAST_PORT = 20_000, 32_000
"""Ports are taken below the kernel's ephemeral range (32768 up by default). From within that range a client that
connects again and again to a killed server's port is in time given that very port as its own, connects to itself,
and the server cannot come back."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that servers run as; `prefix` goes before a command to run it as that user."""

    uid: int
    gid: int
    prefix: tuple[str, ...]

    def own(self, path: Path) -> None:
        """Give one path of ours to this account; nothing to do when it is our own account."""
        if self.prefix:
            os.chown(path, self.uid, self.gid)

    def can_read(self, path: Path) -> bool:
        """Whether this account reaches and reads `path`, asked of the kernel rather than computed from modes."""
        flag = "-x" if path.is_dir() else "-r"
        return subprocess.run([*self.prefix, "test", flag, str(path)], check=False).returncode == 0


def server_account() -> Account:
    """Ourselves, or `nobody` when we are root: neither PostgreSQL nor a broker should be root."""
    if os.geteuid() != 0:
        return Account(os.getuid(), os.getgid(), ())
    entry = pwd.getpwnam(UNPRIVILEGED_USER)
    drop = ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--no-new-privs")
    return Account(entry.pw_uid, entry.pw_gid, (*drop, "--"))


def private_dir(path: Path, account: Account) -> Path:
    """A directory that only `account` (and root) can enter; made if missing."""
    path.mkdir(mode=0o700, exist_ok=True)
    account.own(path)
    return path


def open_dir(path: Path, account: Account) -> Path:
    """A data directory of ours that servers can pass through but not list or write.

    Raises Permanent when a directory above it shuts the servers' account out: we widen nothing that is not ours.
    """
    for folder in reversed([path, *path.parents]):
        if not folder.exists():
            folder.mkdir()
            folder.chmod(0o711)  # whatever the umask says: it is ours
    if not account.can_read(path):
        raise Permanent(
            f"{path} cannot be reached by the user {UNPRIVILEGED_USER}, as whom the servers run",
            hint="choose a data directory whose parents others may pass through",
        )
    return path


def reachable_temp_dir(prefix: str = "hub-") -> Path:
    """A new temporary directory that the servers' account can reach; the caller removes it."""
    path = Path(tempfile.mkdtemp(prefix=prefix))
    path.chmod(0o711)
    return path


def within_reach(source: Path, parts: Sequence[str], sample: str, copy_to: Path, account: Account) -> Path:
    """`source` if the account can read it, else a copy of its `parts` in our own directory, made once.

    `sample` is a file in it by which that is judged. Parts keep their places relative to one another.
    """
    if account.can_read(source / sample):
        return source
    if not copy_to.exists():
        unfinished = copy_to.with_name(copy_to.name + ".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        for part in parts:
            shutil.copytree(source / part, unfinished / part, symlinks=True)
        readable(unfinished)
        unfinished.rename(copy_to)
    return copy_to


def program(name: str) -> Path:
    """The path of an installed program; /usr/sbin is searched too, which users often lack. Raises Permanent."""
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=search)
    if found is None:
        raise Permanent(f"{name} is not installed", hint="`make stack` installs what is missing")
    return Path(found)


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def answers(port: int, timeout_s: float = 0.5) -> bool:
    """Whether something listens on this loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def free_port(taken: Collection[int] = ()) -> int:
    """A loopback port that nobody uses, not among `taken`. Raises Permanent if 1,000 tries find none."""
    for _ in range(1_000):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT)
        if port not in taken and is_free(port):
            return port
    raise Permanent(f"no free port between {FIRST_PORT} and {LAST_PORT}")


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Write a file whole or not at all, mode 0600, owned by `account` (by us if None)."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if account is not None:
        account.own(unfinished)
    unfinished.replace(path)


def kept_ports(root: Path, names: Sequence[str]) -> dict[str, int]:
    """A port for each name, chosen once and kept in `ports.json`, so that a restart has the same addresses."""
    path = root / "ports.json"
    with (root / "ports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ports: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        missing = [name for name in names if name not in ports]
        for name in missing:
            ports[name] = free_port(ports.values())
        if missing:
            write_private(path, json.dumps(ports, indent=1) + "\n")
    return ports
