"""Watches the gateway's own wall clock: is it synchronised, was it set, what follows for rows and device offsets.

Promises: `quality` is at most a second old; a step of the wall clock moves every device's offset by as much; when the
clock becomes synchronised, or is found so at the start, `correct` is called once with the boot and with what wall
time is at boot, so that rows stamped before in this boot, by this process or an earlier one, and in no batch yet can
be mended. Steps are seen as wall minus boot time, which no setting of the clock leaves unchanged.
"""

import asyncio
from collections.abc import Callable

from edge_agent.correction import Fix
from edge_agent.events import ClockStepped, ClockSynced, ClockUnsynced, DeviceClocks
from edge_agent.notes import Say, emit
from edge_agent.skew import SkewBook
from shared.batch import ClockQuality
from shared.clock import Clock

EVERY_S = 1.0
STEP_MS = 1_000
"""A change of wall minus boot time in one second that no slewing makes (adjtimex slews 0.5 ms a second)."""

REPORT_EVERY = 10

Correct = Callable[[Fix], None]
"""Takes what mends the rows stamped unsynced until now."""


class ClockWatch:
    """One gateway's. `check` may be called at any time; `serve` calls it every second."""

    def __init__(self, clock: Clock, skew: SkewBook, correct: Correct, say: Say = emit) -> None:
        self._clock = clock
        self._skew = skew
        self._correct = correct
        self._say = say
        self._zero_ms = clock.wall_ms() - clock.boot_ms()
        self._synced = clock.synced()
        self._jumps = self._resets = 0
        if self._synced:
            self._mend()
        (ClockSynced() if self._synced else ClockUnsynced()).emit()

    @property
    def quality(self) -> ClockQuality:
        """How far the wall clock is to be trusted."""
        return ClockQuality.SYNCED if self._synced else ClockQuality.UNSYNCED

    async def serve(self, stopping: asyncio.Event) -> None:
        """Check every second until `stopping`."""
        checks = 0
        while not stopping.is_set():
            self.check()
            if checks % REPORT_EVERY == 0:
                self._report()
            checks += 1
            try:
                async with asyncio.timeout(EVERY_S):
                    await stopping.wait()
            except TimeoutError:
                continue

    def check(self) -> None:
        """Look at the clocks once, and do what follows."""
        zero_ms = self._clock.wall_ms() - self._clock.boot_ms()
        step_ms = zero_ms - self._zero_ms
        self._zero_ms = zero_ms
        if abs(step_ms) >= STEP_MS:
            self._skew.shift(step_ms)
            self._say(ClockStepped(step_ms))
        synced = self._clock.synced()
        if synced == self._synced:
            return
        self._synced = synced
        if synced:
            self._mend()
            self._say(ClockSynced())
        else:
            self._say(ClockUnsynced())

    def _mend(self) -> None:
        self._correct(Fix(self._clock.boot_id(), self._zero_ms, self._clock.boot_ms()))

    def _report(self) -> None:
        skew = self._skew
        jumps, resets = skew.jumps - self._jumps, skew.resets - self._resets
        self._jumps, self._resets = skew.jumps, skew.resets
        DeviceClocks(skew.worst_ms(), skew.in_doubt(), jumps, resets).emit()
