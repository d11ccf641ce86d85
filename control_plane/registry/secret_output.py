"""A secret that is shown once, written to a file of its own instead of the terminal (mode 0600).

The file is made before the secret is: where it cannot be, nothing is done, and no secret is shown to nobody.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.errors import Permanent


class SecretFile:
    """A context manager: left without `keep`, the file is removed again. Raises Permanent for one that exists."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise Permanent(f"{path} exists already", hint="name another file: none is overwritten") from error
        except OSError as error:
            raise Permanent(f"{path} cannot be written: {error.strerror}", hint="nothing was done") from error
        self._kept = False

    def keep(self, secret: str) -> str | None:
        """Write it, durably; why it could not be, or None."""
        try:
            os.write(self._handle, f"{secret}\n".encode("ascii"))
            os.fsync(self._handle)
        except OSError as error:
            return str(error.strerror)
        self._kept = True
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)
        if not self._kept:
            self._path.unlink()
