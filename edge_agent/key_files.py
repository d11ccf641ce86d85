"""The gateway's key on disk: `key`, beside it while it is replaced `key.new`, and `key.asked`, a request begun.

Promises: each change is one rename, durable when the call returns (file and directory), so a power cut leaves the
state before it or after it, each with a key that works; files are the owner's alone (0600). What a cut left half
written is removed at the next start.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_agent.config import read_key
from shared.config import ConfigError, Secret
from shared.errors import Permanent


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key: its public half, which is the user name, and its secret."""

    key_id: str
    secret: Secret

    @property
    def text(self) -> Secret:
        """As it is shown and sent to REST."""
        return Secret(f"{self.key_id}.{self.secret}")


@dataclass(frozen=True, slots=True)
class OnDisk:
    """All of it. `asked`: the Idempotency-Key of a request begun."""

    present: HeldKey
    new: HeldKey | None = None
    asked: str | None = None


class KeyFiles:
    """The files beside `path`, which is AGENT_KEY_FILE."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = path.with_name(path.name + ".new")
        self._asked = path.with_name(path.name + ".asked")

    def load(self) -> OnDisk:
        """What is there. Raises ConfigError for a present key that is missing or none."""
        present = HeldKey(*read_key(self._path))
        new = None
        if self._new.exists():
            try:
                new = HeldKey(*read_key(self._new))
            except ConfigError:
                self._remove(self._new)  # nobody but us writes it, and whole
        try:
            asked = self._asked.read_text(encoding="ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            asked = None
        return OnDisk(present, new, asked)

    def request(self, idempotency_key: str) -> None:
        """A request is begun. Raises Permanent where the directory cannot be written."""
        self._write(self._asked, idempotency_key)

    def no_request(self) -> None:
        """It is over."""
        self._remove(self._asked)

    def keep_new(self, key: HeldKey) -> None:
        """A new key beside the present one; the request is over with it."""
        self._write(self._new, key.text)
        self._remove(self._asked)

    def promote(self) -> None:
        """The new key takes the present one's place, in one step."""
        with _refusals(self._path):
            self._new.replace(self._path)
            _sync(self._path.parent)

    def drop_new(self) -> None:
        """Keep the present key alone."""
        self._remove(self._new)

    def _write(self, path: Path, text: str) -> None:
        unfinished = path.with_name(path.name + ".part")
        with _refusals(path):
            unfinished.unlink(missing_ok=True)
            handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            _sync(path.parent)

    def _remove(self, path: Path) -> None:
        with _refusals(path), suppress(FileNotFoundError):
            path.unlink()
            _sync(path.parent)


class _refusals:  # noqa: N801 - a context manager, used as a function
    """Turns the system's refusals to write into ours, once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise Permanent(
                f"{self._path} cannot be written: {error.strerror}",
                hint="a key is replaced beside itself: its directory must be the agent's to write",
            ) from error


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
