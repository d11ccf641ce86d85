"""The list of revocations where the broker reads it, and the word to the broker to read it again.

Promises: the file appears whole and durable or not at all; a broker is told only after the file stands; a pid that is
no broker's any more is never signalled.
"""

import asyncio
import os
import secrets
import shlex
import signal
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Transient

_COMMAND_S = 10.0
_PROGRAM = "mosquitto"


@dataclass(frozen=True, slots=True)
class Reload:
    """How a broker is told: by a signal to the pid in a file (its first word), or by a command; or not at all."""

    pid_file: Path | None = None
    command: str | None = None

    async def tell(self) -> None:
        """Have the broker read its files again. Raises Transient if it could not be told; one that does not run reads
        them when it starts.
        """
        if self.command is not None:
            await self._run(self.command)
        elif self.pid_file is not None:
            self._signal(self.pid_file)

    def _signal(self, pid_file: Path) -> None:
        try:
            pid = int(pid_file.read_text(encoding="ascii").split()[0])
            handle = os.pidfd_open(pid)
        except (FileNotFoundError, ProcessLookupError):
            return
        except (OSError, ValueError, IndexError) as error:
            raise Transient(f"the broker cannot be told: {pid_file} names no process") from error
        try:
            if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == _PROGRAM:
                signal.pidfd_send_signal(handle, signal.SIGHUP)
        except (FileNotFoundError, ProcessLookupError):
            return
        except OSError as error:
            raise Transient(f"the broker cannot be told: {error.strerror}", hint="see HUB_BROKER_PID_FILE") from error
        finally:
            os.close(handle)

    async def _run(self, command: str) -> None:
        child = await asyncio.create_subprocess_exec(
            *shlex.split(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(_COMMAND_S):
                code = await child.wait()
        except TimeoutError:
            code = -1
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if code != 0:
            raise Transient(
                f"the broker cannot be told: the command ended with {code}", hint="HUB_BROKER_RELOAD_COMMAND"
            )


def write(path: Path, text: str) -> None:
    """Replace the file, mode 0644 (it is public, and the broker another user). Raises Transient."""
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        try:
            handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise Transient(f"{path} cannot be written: {error.strerror}", hint="see HUB_CRL_FILE") from error
