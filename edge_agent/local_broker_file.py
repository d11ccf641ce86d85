"""The local broker's file, kept as the hub last said who is behind this gateway.

Promises: written whole or not at all, and only when it changed; a broker that has not loaded it yet is remembered
over restarts of the agent, until the command that restarts it succeeded. Nothing here waits for the hub.
"""

import asyncio
import json
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from edge_agent import events
from edge_agent.local_broker import LocalDevice, acl_file, records
from shared.dynsec_document import BrokerClient, document

FILE, ACL, MARK = "dynamic-security.json", "acl", "restart-needed"
_RESTART_S = 30.0


class LocalBrokerFile:
    """`directory` holds the broker's two files; `restart`: the command that restarts it, None: somebody else does."""

    def __init__(self, directory: Path, restart: str | None) -> None:
        self._directory = directory
        self._restart = shlex.split(restart) if restart else []

    @property
    def restart_needed(self) -> bool:
        """Whether the broker may still run with older records."""
        return (self._directory / MARK).exists()

    async def follow(self, devices: Iterable[LocalDevice]) -> bool:
        """Make the files say who these devices are, and have the broker load them; False if it could not be done."""
        try:
            await asyncio.to_thread(self._store, records(devices))
            return await self._load() if self.restart_needed else True
        except OSError as error:
            events.LocalBrokerNotWritten(f"{self._directory}: {error.strerror}").emit()
            return False

    def _store(self, clients: list[BrokerClient]) -> None:
        wanted = {FILE: json.dumps(document(clients)), ACL: acl_file()}
        changed = [name for name, text in wanted.items() if _read(self._directory / name) != text]
        if changed:
            # The mark first: a crash after the files would leave a broker that nobody restarts.
            _write(self._directory / MARK, "")
            for name in changed:
                _write(self._directory / name, wanted[name])
            events.LocalBrokerWritten(len(clients)).emit()

    async def _load(self) -> bool:
        """Mosquitto 2.0 reads its records only when it starts."""
        if not self._restart:
            return False
        try:
            process = await asyncio.create_subprocess_exec(
                *self._restart,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            events.LocalBrokerNotWritten(f"AGENT_LAN_RESTART_COMMAND: {error.strerror}").emit()
            return False
        try:
            async with asyncio.timeout(_RESTART_S):
                status = await process.wait()
        except TimeoutError:
            process.kill()
            status = await process.wait()
        if status != 0:
            events.LocalBrokerNotWritten(f"AGENT_LAN_RESTART_COMMAND ended with {status}").emit()
            return False
        (self._directory / MARK).unlink(missing_ok=True)
        return True


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _write(path: Path, text: str) -> None:
    """Whole or not at all, mode 0640: the broker reads it by the directory's group."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    group = path.parent.stat().st_gid
    if unfinished.stat().st_gid != group:
        os.chown(unfinished, -1, group)
    unfinished.replace(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
