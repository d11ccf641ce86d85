"""A gateway: a local broker of the shipped configuration and an edge agent, each a process that can be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from deploy.site.registry import Identity
from deploy.stack import LocalBroker
from deploy.stack.host import free_port
from shared.errors import Permanent, Transient

_READY_S = 90.0
_STOP_S = 20.0
_POLL_S = 0.05


class Gateway:
    """One gateway below `root` (a directory that the broker's account can reach). Not running until `start`."""

    def __init__(
        self,
        root: Path,
        identity: Identity,
        hub_mqtt_url: str,
        settings: Mapping[str, str] | None = None,
        *,
        save_on_change: bool = True,
        data_dir: Path | None = None,
    ) -> None:
        """`save_on_change`: of the local broker, True as shipped. `settings`: environment of the agent.

        `data_dir`: the agent's, for one on a disk of its own.
        """
        self.id = identity.id
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.broker = LocalBroker(root, save_on_change=save_on_change)
        self.data_dir = data_dir or root / "agent"
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        key_file = self.data_dir / "key"
        key_file.touch(mode=0o600)
        key_file.write_text(identity.api_key + "\n", encoding="utf-8")
        self.health_port = free_port()
        self.log_path = root / "agent.log"
        self.env = {
            "AGENT_ID": identity.id,
            "AGENT_KEY_FILE": str(key_file),
            "AGENT_DATA_DIR": str(self.data_dir),
            "AGENT_LOCAL_MQTT_URL": f"mqtt://127.0.0.1:{self.broker.port}",
            "AGENT_HEALTH_PORT": str(self.health_port),
            "AGENT_FIRST_CONNECT_S": "0",
            "HUB_MQTT_URL": hub_mqtt_url,
        } | dict(settings or {})
        self._agent: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Broker, then agent; returns when the agent takes messages."""
        self.broker.start()
        self.start_agent()

    def start_agent(self) -> None:
        """Run the agent and wait until it is ready (90 s at most, else Transient)."""
        assert not self.running
        with self.log_path.open("ab") as log:
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "edge_agent", "run"],
                env=os.environ | self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: they are stopped in order
            )
        deadline = time.monotonic() + _READY_S
        while not self.is_ready():
            if self._agent.poll() is not None:
                raise Permanent(f"agent ended with {self._agent.returncode}", hint=f"see {self.log_path}")
            if time.monotonic() > deadline:
                raise Transient(f"agent not ready after {_READY_S:.0f} s; see {self.log_path}")
            time.sleep(_POLL_S)

    @property
    def running(self) -> bool:
        """Whether the agent's process runs."""
        return self._agent is not None and self._agent.poll() is None

    @property
    def pid(self) -> int:
        """The agent's."""
        assert self._agent is not None
        return self._agent.pid

    def is_ready(self) -> bool:
        """Whether the agent answers that it is ready."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.health_port}/readyz", timeout=5)
        except httpx.TransportError:
            return False
        return answer.status_code == httpx.codes.OK

    def command(self, *words: str) -> str:
        """Run `edge-agent WORDS` with this gateway's environment; its standard output, or Permanent."""
        done = subprocess.run(
            [sys.executable, "-m", "edge_agent", *words],
            env=os.environ | self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise Permanent(
                f"edge-agent {' '.join(words)} ended with {done.returncode}: {done.stderr or done.stdout}"
            )
        return done.stdout

    def ledger(self) -> dict[str, Any]:
        """The agent's own account (`edge-agent ledger --json`)."""
        ledger: dict[str, Any] = json.loads(self.command("ledger", "--json"))
        return ledger

    def live_ledger(self) -> dict[str, Any]:
        """The same, asked of the running agent without a process for it: for whoever asks often."""
        ledger: dict[str, Any] = httpx.get(f"http://127.0.0.1:{self.health_port}/ledger", timeout=30).json()
        return ledger

    def kill_agent(self) -> None:
        """SIGKILL the agent, as a power cut would; returns when it is gone."""
        assert self._agent is not None
        os.kill(self._agent.pid, signal.SIGKILL)
        self._agent.wait(_STOP_S)

    def stop_agent(self) -> None:
        """End the agent in order."""
        if not self.running:
            return
        assert self._agent is not None
        self._agent.terminate()
        try:
            self._agent.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill_agent()

    def stop(self) -> None:
        """End agent and broker."""
        self.stop_agent()
        self.broker.stop()
