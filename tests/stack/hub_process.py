"""A `hub` command as a child process: started, watched, killed, by the pid that was started."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

CHECKOUT = Path(__file__).parents[2]
WAIT_S = 60.0


class HubProcess:
    """`hub WORDS…` with `env`. Ends with the block, whatever happened in it."""

    def __init__(self, words: list[str], env: Mapping[str, str], *, service: str) -> None:
        self._words = words
        self._env = dict(env)
        self._service = service
        self._run_file = Path(env["HUB_DATA_DIR"]) / "run" / f"{service}.json"
        self.log = Path(env["HUB_DATA_DIR"]) / f"{service}.log"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it; returns at once."""
        assert self._child is None or self._child.poll() is not None
        self._run_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "control_plane", *self._words],
                cwd=CHECKOUT,
                env={**os.environ, **self._env, "HUB_SUPERVISOR_PID": str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        assert self._child is not None
        self._child.kill()
        self._child.wait(WAIT_S)

    def signal(self, number: signal.Signals) -> None:
        assert self._child is not None
        self._child.send_signal(number)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self._child is not None
        self._child.terminate()
        return self._child.wait(WAIT_S)

    def returncode(self) -> int | None:
        assert self._child is not None
        return self._child.poll()

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of its health server; (0, why) while it does not answer."""
        try:
            port = msgspec.json.decode(self._run_file.read_bytes())["health_port"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except (OSError, msgspec.DecodeError) as error:
            return 0, repr(error)

    def ready(self) -> bool:
        """Whether /readyz says so; fails the test if the process has ended."""
        assert self.returncode() is None, f"{self._service} ended:\n{self.log_end()}"
        return self.get("/readyz")[0] == 200

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that bear these labels."""
        found = 0.0
        for line in self.get("/metrics")[1].splitlines():
            head, _, value = line.rpartition(" ")
            if head.split("{")[0] == name and all(f'{key}="{text}"' in head for key, text in labels.items()):
                found += float(value)
        return found

    def log_end(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-4_000:]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait(WAIT_S)


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, *, wait_s: float = WAIT_S) -> None:
    """Wait for a condition that other processes bring about; fails the test, saying what was waited for."""
    deadline = time.monotonic() + wait_s
    while True:
        found = condition()
        if isinstance(found, bool):
            done = found
        else:
            done = await found
        if done:
            return
        assert time.monotonic() < deadline, f"waited {wait_s:.0f} s: {what}"
        await asyncio.sleep(0.05)
