"""Room on the outbox's disk: when rows may be accepted, and a reserve for the time when nothing else is left.

Forming and freeing are what empties a full outbox, so they must be able to commit: rows are refused while there is
still some space, and a file of reserve gives up its own when others have filled the disk to the end.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Room:
    """The bounds: `free_floor_bytes` stay free on the disk, `reserve_bytes` lie in a file beside the outbox."""

    path: Path
    free_floor_bytes: int
    reserve_bytes: int

    def lacking(self) -> str | None:
        """Why no rows may be accepted now, or None."""
        free_bytes = self._free_bytes()
        if free_bytes < self.free_floor_bytes:
            return f"the outbox's disk has {free_bytes} bytes free, {self.free_floor_bytes} are kept"
        return None

    def keep_reserve(self) -> None:
        """Lay the reserve by if it is not there and there is space for it."""
        try:
            if not self._reserve.exists() and self._free_bytes() > self.free_floor_bytes + self.reserve_bytes:
                with self._reserve.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, self.reserve_bytes)
        except OSError:  # no space after all: tried again when rows are accepted again
            self.drop_reserve()

    def drop_reserve(self) -> None:
        """Give the reserve up."""
        with suppress(OSError):  # a disk that cannot even unlink is reported by the commit that fails next
            self._reserve.unlink(missing_ok=True)

    @property
    def _reserve(self) -> Path:
        return self.path.with_name(self.path.name + ".reserve")

    def _free_bytes(self) -> int:
        disk = os.statvfs(self.path.parent)
        return disk.f_bavail * disk.f_frsize
