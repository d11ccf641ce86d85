"""Time as a parameter: wall clock for stamps, monotonic for waits, boot time to mend stamps later.

Everything that measures a wait uses `monotonic_s`; everything that stamps a record uses `wall_ms` beside
`boot_ms` and `boot_id`, so that a record stamped before the clock was set can be corrected (Linux only).
"""

import ctypes
import functools
import time
from pathlib import Path
from typing import Protocol

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


class Clock(Protocol):
    """What code may ask of time."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC; may jump."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never run backwards and do not count suspension."""
        ...

    def boot_ms(self) -> int:
        """Milliseconds since boot, suspension included (CLOCK_BOOTTIME)."""
        ...

    def boot_id(self) -> str:
        """Which boot `boot_ms` counts from."""
        ...

    def synced(self) -> bool:
        """True if the kernel holds the wall clock for synchronised."""
        ...


class _Timex(ctypes.Structure):
    # Only `modes` and `status` are named; the rest is padding to the kernel's size (adjtimex(2)).
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


class SystemClock:
    """The machine's own clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def boot_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def boot_id(self) -> str:
        return _boot_id()

    def synced(self) -> bool:
        timex = _Timex()
        state = _libc().adjtimex(ctypes.byref(timex))
        return bool(state not in (-1, _TIME_ERROR) and not timex.status & _STA_UNSYNC)


@functools.cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
