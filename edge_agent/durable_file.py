"""A small file replaced durably, whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from shared.errors import Permanent, Transient


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace the file, durably, whole or not at all. Raises Transient (no space) or Permanent."""
    fresh = path.with_name(path.name + ".part")
    try:
        with suppress(FileNotFoundError):
            fresh.unlink()  # of a run that was cut off
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        kind = Transient if error.errno in (28, 122) else Permanent  # ENOSPC, EDQUOT
        raise kind(f"{path} cannot be written: {error.strerror}", hint="check disk space and rights") from error
