"""The control plane as one process tree: migrate, serve, status, and killing one of its services."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.errors import Permanent, Transient

_READY_S = 180.0
_STOP_S = 30.0
_POLL_S = 0.1


class Hub:
    """`hub serve` against the servers of `env` (what `Stack.env()` gives). Not running until `start`."""

    def __init__(self, env: Mapping[str, str], log_path: Path) -> None:
        self.env = dict(env)
        self.log_path = log_path
        self._serve: subprocess.Popen[bytes] | None = None

    def command(self, *words: str, timeout_s: float = 60.0) -> str:
        """Run `hub WORDS`; its standard output. Raises Permanent with what it said if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "control_plane", *words],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            raise Permanent(f"hub {' '.join(words)} ended with {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def start(self) -> None:
        """Migrate, serve, and wait until every service is ready (180 s at most, else Transient)."""
        self.command("migrate")
        self.serve()
        self.wait_ready()

    def serve(self) -> None:
        """Start the process tree; returns at once."""
        assert self._serve is None or self._serve.poll() is not None
        with self.log_path.open("ab") as log:
            self._serve = subprocess.Popen(
                [sys.executable, "-m", "control_plane", "serve"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: they are stopped in order
            )

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._serve is not None
        return self._serve.pid

    def services(self) -> dict[str, dict[str, Any]]:
        """Each service by name: pid, readiness, restarts (`hub status --json`). Empty while nothing serves."""
        done = subprocess.run(
            [sys.executable, "-m", "control_plane", "status", "--json"],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        try:
            status = json.loads(done.stdout)
        except json.JSONDecodeError:
            return {}
        return {service["name"]: service for service in status.get("services", [])}

    def wait_ready(self, within_s: float = _READY_S) -> None:
        """Return when every service says that it is ready; Transient with the stragglers after `within_s`."""
        deadline = time.monotonic() + within_s
        while True:
            services = self.services()
            if services and all(service["ready"] for service in services.values()):
                return
            if self._serve is not None and self._serve.poll() is not None:
                raise Permanent(f"hub serve ended with {self._serve.returncode}", hint=f"see {self.log_path}")
            if time.monotonic() > deadline:
                late = {name: service for name, service in services.items() if not service["ready"]}
                raise Transient(f"not ready after {within_s:.0f} s: {late or 'no service'}; see {self.log_path}")
            time.sleep(_POLL_S)

    def kill(self, service: str) -> int:
        """SIGKILL one service, as a crash would; its pid. The supervisor starts it again."""
        pid = int(self.services()[service]["pid"])
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_tree(self) -> None:
        """SIGKILL the supervisor; its children must die with it."""
        assert self._serve is not None
        self._serve.kill()
        self._serve.wait(_STOP_S)

    def stop(self) -> None:
        """End the tree in order; kill the supervisor if it takes more than 30 s."""
        if self._serve is None or self._serve.poll() is not None:
            return
        self._serve.terminate()
        try:
            self._serve.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill_tree()

    def _environment(self) -> dict[str, str]:
        return os.environ | self.env
