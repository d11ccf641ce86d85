"""`edge-agent rotate`: have the gateway's key replaced now, by the agent that runs or at its next start."""

import os
import secrets
import signal
import time
from typing import Any

from edge_agent.config import AgentConfig
from edge_agent.key_files import KeyFiles
from edge_agent.running import find
from shared.config import ConfigError
from shared.errors import Transient

_LOOK_S = 0.05


def rotate(config: AgentConfig, *, within_s: float = 60.0) -> dict[str, Any]:
    """{"rotated", "key_id", "before"}: by the running agent, awaited; without one it is begun and done at its start.

    Raises ConfigError without HUB_API_URL, Permanent where the key's directory cannot be written, Transient if it
    takes longer: the agent goes on trying.
    """
    if config.hub_api_url is None:
        raise ConfigError(["HUB_API_URL: is needed to ask the hub for a new key"])
    files = KeyFiles(config.key_file)
    disk = files.load()
    before = disk.present.key_id
    if disk.asked is None and disk.new is None:
        files.request(secrets.token_urlsafe(16))
    running = find(config.data_dir)
    if running is None:
        return {"rotated": False, "key_id": before, "before": before}
    os.kill(running.pid, signal.SIGHUP)
    deadline = time.monotonic() + within_s
    while (now := files.load()).present.key_id == before:
        if time.monotonic() > deadline:
            raise Transient(f"the key was not replaced within {within_s:.0f} s", hint="see the agent's log")
        time.sleep(_LOOK_S)  # another process writes the file: there is nothing to wait on
    return {"rotated": True, "key_id": now.present.key_id, "before": before}
