"""Starting the broker anew with a file of ours: written beside its own, put in place by whoever starts it.

A running broker rewrites its file whenever it likes, so nobody else may: we write `<file>.next`, and the start of the
broker (the stack's; the unit's ExecStartPre, see docs/broker.md) puts that in the place of `<file>` first.
"""

import asyncio
import shlex
from collections.abc import Sequence
from pathlib import Path

from control_plane.registry import broker_file
from shared.dynsec_document import BrokerClient
from shared.errors import Permanent, Transient

_RESTART_S = 60.0
NOT_CONFIGURED = "this hub has not been told how to restart its broker"
BY_HAND = (
    "set HUB_BROKER_FILE and HUB_BROKER_RESTART_COMMAND, or by hand: stop the broker, "
    "`hub broker-file --out FILE`, start it (docs/broker.md)"
)


class BrokerRestart:
    """`file`: the broker's dynamic-security.json as this process sees it; `command`: what restarts the broker."""

    def __init__(self, file: Path, command: str) -> None:
        """Raises ValueError for a command that is none."""
        self._file = file
        self._next = file.with_name(f"{file.name}.next")
        self._command = shlex.split(command)
        if not self._command:
            raise ValueError("is empty")

    def write_next(self, clients: Sequence[BrokerClient]) -> None:
        """What the next start is to load. Raises Permanent if it cannot be written."""
        broker_file.write(self._next, clients, owner_of=self._file)

    def forget_next(self) -> None:
        """The next start loads the broker's own file: an old one of ours would bring back what ended since."""
        self._next.unlink(missing_ok=True)

    def taken(self) -> bool:
        """Whether a start has put our file in place."""
        return not self._next.exists()

    async def run(self) -> None:
        """Restart the broker; returns when the command has ended. Raises Transient."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            raise Permanent(
                f"the command that restarts the broker cannot be run: {error.strerror}",
                hint="HUB_BROKER_RESTART_COMMAND",
            ) from error
        try:
            async with asyncio.timeout(_RESTART_S):
                status = await process.wait()
        except TimeoutError:
            raise Transient(f"the command that restarts the broker has not ended after {_RESTART_S:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if status != 0:
            raise Transient(
                f"the command that restarts the broker ended with {status}",
                hint="run HUB_BROKER_RESTART_COMMAND by hand and see what it says",
            )
