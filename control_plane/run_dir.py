"""`$HUB_DATA_DIR/run`: the lock of `hub serve`, and what it says of its services.

Promises: the lock ends with the process that holds it, however that ends, and no child inherits it; what a dead
supervisor wrote is not read.
"""

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.errors import Permanent

_LOCK_S = 2.0
_LOCK_FILE = "hub.lock"
_STATE_FILE = "hub.json"


class AlreadyServed(Permanent):
    """Another `hub serve` has this HUB_DATA_DIR."""


@contextlib.contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """Hold the directory's lock; it ends with this process, and children do not inherit it. Raises AlreadyServed."""
    path = data_dir / "run" / _LOCK_FILE
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as lock:
        deadline = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # `hub status` looks at the lock for a moment, and a predecessor may be about to end.
                if time.monotonic() > deadline:
                    raise AlreadyServed(
                        f"another `hub serve` runs on {data_dir}", hint="see `hub status`, or stop that one first"
                    ) from None
                time.sleep(0.02)
        yield


def write(data_dir: Path, state: Mapping[str, Any]) -> None:
    """What `read` shows from now on; the caller holds the lock."""
    path = data_dir / "run" / _STATE_FILE
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(state), encoding="utf-8")
    unfinished.replace(path)


def forget(data_dir: Path) -> None:
    """There is nothing to show any more."""
    (data_dir / "run" / _STATE_FILE).unlink(missing_ok=True)


def read(data_dir: Path) -> dict[str, Any] | None:
    """What the running supervisor wrote, or None if none runs."""
    folder = data_dir / "run"
    try:
        with (folder / _LOCK_FILE).open(encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        try:
            state: dict[str, Any] = json.loads((folder / _STATE_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None  # it is about to write it, or has just ended
        return state
    return None  # nobody holds the lock: what the file says is of a dead one
