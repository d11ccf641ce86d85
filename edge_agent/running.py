"""One agent per data directory: who holds it, and how commands reach it.

Promises: two agents never share a directory (an advisory lock that dies with its process). What a running agent
wrote into the lock file is believed only while the lock is held.
"""

import fcntl
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from edge_agent.config import LOCK_FILE
from shared.errors import Permanent, Transient

FETCH_S = 5.0
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid


class Running(msgspec.Struct, frozen=True):
    """A running agent: its process, and where its health is served."""

    pid: int
    health_host: str
    health_port: int


class Claim:
    """This process's hold on a data directory, from `with` to its end."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / LOCK_FILE
        self._file = -1

    def __enter__(self) -> Self:
        """Take it. Raises Permanent if another process holds it or the directory cannot be written."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Permanent(
                f"{self._path.parent} cannot be used: {error.strerror}", hint="check AGENT_DATA_DIR and its owner"
            ) from error
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise Permanent(
                f"{self._path.parent} is in use by another edge-agent", hint="stop that one first"
            ) from error
        os.ftruncate(self._file, 0)
        return self

    def announce(self, running: Running) -> None:
        """Say where this agent can be reached."""
        data = msgspec.json.encode(running)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, data, 0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.ftruncate(self._file, 0)
        os.close(self._file)


def find(data_dir: Path) -> Running | None:
    """The agent that runs on this directory, or None. A holder that has not announced itself has port 0."""
    try:
        file = os.open(data_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Asked, not tried: trying would hold the lock for a moment and turn away an agent that starts just then.
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
        if kind == fcntl.F_UNLCK:
            return None
        return msgspec.json.decode(os.pread(file, 4_096, 0), type=Running)
    except msgspec.DecodeError:
        return Running(pid, "", 0)
    finally:
        os.close(file)


def fetch(running: Running, path: str) -> tuple[int, bytes]:
    """(status, body) of one of its health pages. Raises Transient if it does not answer within 5 s."""
    import http.client  # noqa: PLC0415 - for commands; the resident agent fetches nothing

    connection = http.client.HTTPConnection(running.health_host, running.health_port, timeout=FETCH_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Transient(
            f"the agent (pid {running.pid}) does not answer on port {running.health_port}: {error!r}",
            hint="it may be starting or stopping; try again, or see its log",
        ) from error
    finally:
        connection.close()
