"""One server of the local stack: start, stop, kill, known again after its starter has gone.

Promises: `start` is idempotent and returns when the server answers; the data and the port stay the same over any
restart. A subclass says how to prepare the directory, what to run, and how to tell that it answers.
"""

import fcntl
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.stack import host, process
from shared.errors import Permanent, Transient

START_S = 180.0  # a busy machine may need most of a minute for Kafka alone
STOP_S = 30.0
_POLL_S = 0.02
_LOG_BYTES = 16 * 1024 * 1024  # a log larger than this at a start becomes the previous one


class Server(ABC):
    """A server with a directory and a loopback port of its own, which nobody else uses."""

    name: str
    stop_signal = signal.SIGTERM
    retry_after_log: str | None = None
    """Words in the log that mean: it ended because its predecessor has not quite gone; start it again."""

    def __init__(self, root: Path, port: int) -> None:
        """`root`: the stack's data directory, which the servers' account can reach."""
        self.root = root
        self.port = port
        self.home = root / self.name
        self.account = host.server_account()
        self.log_path = root / "log" / f"{self.name}.log"
        self._pid_file = root / "run" / f"{self.name}.pid"
        self._log_start = 0  # where the log of the latest start begins

    @property
    def pid(self) -> int | None:
        """The running server's pid, or None."""
        running = process.recorded(self._pid_file)
        return running.pid if running else None

    def is_running(self) -> bool:
        """Whether the process runs; it may not answer yet."""
        return self.pid is not None

    def start(self) -> None:
        """Run it if it does not run, and wait until it answers.

        Raises Transient with the end of its log if it ended or does not answer within 180 s; Permanent if its port is
        taken by somebody else.
        """
        with self._alone():
            deadline = time.monotonic() + START_S
            running = process.recorded(self._pid_file)
            while True:
                running = running or self._launch()
                if self._wait_ready(running, deadline):
                    return
                if not self._predecessor_lingers() or time.monotonic() > deadline:
                    raise Transient(f"{self.name} did not start; {self.log_path} ends:\n{self._log_end()}")
                running = None

    def stop(self) -> None:
        """End it in order; kill it if it has not ended after 30 s. Nothing to do if it does not run."""
        with self._alone():
            running = process.recorded(self._pid_file)
            if running and not running.send(self.stop_signal, STOP_S):
                running.send(signal.SIGKILL, STOP_S)
            self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL, as a crash would; returns when the process is gone. Nothing to do if it does not run."""
        running = process.recorded(self._pid_file)
        if running and not running.send(signal.SIGKILL, STOP_S):
            raise Transient(f"{self.name} (pid {running.pid}) survives SIGKILL")

    @abstractmethod
    def _prepare(self) -> None:
        """Make or bring up to date what the server needs in its home; called before each start."""

    @abstractmethod
    def _command(self) -> list[str]:
        """What to run, in the foreground."""

    @abstractmethod
    def _ready(self, pid: int) -> bool:
        """Whether the process of this pid answers its clients."""

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.home), "LC_ALL": "C.UTF-8"}

    def _launch(self) -> process.Process:
        if not host.is_free(self.port):
            raise Permanent(
                f"port {self.port} of {self.name} is taken by another program",
                hint=f"end that program, or remove {self.root / 'ports.json'} to choose new ports",
            )
        host.private_dir(self.home, self.account)
        self._prepare()
        if self.log_path.exists() and self.log_path.stat().st_size > _LOG_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        return process.launch(
            [*self.account.prefix, *self._command()],
            pid_file=self._pid_file,
            log_file=self.log_path,
            cwd=self.home,
            env=self._environment(),
        )

    def _wait_ready(self, running: process.Process, deadline: float) -> bool:
        while time.monotonic() < deadline:
            if not running.alive():
                return False
            if self._ready(running.pid):
                return True
            time.sleep(_POLL_S)
        return False

    def _predecessor_lingers(self) -> bool:
        if self.retry_after_log is None or not self.log_path.exists():
            return False
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return self.retry_after_log.encode() in log.read()

    def _log_end(self) -> str:
        if not self.log_path.exists():
            return "(empty)"
        with self.log_path.open("rb") as log:
            log.seek(max(0, self.log_path.stat().st_size - 2_000))
            return log.read().decode("utf-8", "replace")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One starter or stopper at a time, over all processes."""
        for folder in (self._pid_file.parent, self.log_path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        with (self._pid_file.with_suffix(".lock")).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
