"""How many readings a device behind a gateway may send, where it or its type has limits of its own. PURE.

Judged by the time of acceptance at the gateway, in each lane by itself, so a backlog that comes at once after an
outage is judged as it was made. The policy's defaults are not for such devices: their gateway has its own, and
nothing of what it sends is refused for being much. A dead letter that comes back is not judged again.

State, per gateway: under `l` and the lane, when each such device's allowance is whole again.
"""

import msgspec

from control_plane.analytics.job import State
from shared.batch import Lane
from shared.device import DeviceView, Limits
from shared.rates import Defaults

REMEMBERED = 1_024
"""Devices with limits, of one gateway and lane; of more, those that were heard longest ago begin anew."""
_BACKWARDS_MS = 60_000
"""An allowance so much further ahead than it can be was counted by a clock that was set back since."""
_KEYS = {lane: b"l" + lane.value.encode() for lane in Lane}
_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(dict[str, float]).decode


class DeviceRates:
    """For the length of one batch. Call `save` when all of it was judged."""

    def __init__(self, state: State, lane: Lane, defaults: Defaults) -> None:
        self._state = state
        self._key = _KEYS[lane]
        self._defaults = defaults
        self._whole_at: dict[str, float] | None = None

    def allows(self, view: DeviceView, at_ms: int) -> bool:
        """Whether one more reading, accepted then, is within the device's limits; only then it counts."""
        if view.limits is None and view.type not in self._defaults.types:
            return True
        per_s = _readings_per_s(view.limits, self._defaults.types.get(view.type))
        if per_s is None:
            return True
        if self._whole_at is None:
            known = self._state.get(self._key)
            self._whole_at = {} if known is None else _DECODE(known)
        cost_ms, burst_ms = 1_000 / per_s, self._defaults.device.burst_s * 1_000
        whole_at = max(self._whole_at.pop(view.id, 0.0), float(at_ms))
        if whole_at > at_ms + burst_ms + cost_ms + _BACKWARDS_MS:
            whole_at = float(at_ms)
        allowed = whole_at < at_ms + burst_ms
        self._whole_at[view.id] = whole_at + cost_ms if allowed else whole_at  # the newest stand at the end
        return allowed

    def save(self) -> None:
        """Keep it for the next batch."""
        if self._whole_at is not None:
            newest = list(self._whole_at.items())[-REMEMBERED:]
            self._state.set(self._key, _ENCODE(dict(newest)))


def _readings_per_s(own: Limits | None, of_type: Limits | None) -> float | None:
    """The lower of what is said of messages and of readings: behind a gateway each reading came as a message."""
    figures = []
    for name in ("messages_per_s", "readings_per_s"):
        said = [getattr(limits, name) for limits in (own, of_type) if limits is not None]
        figures += [found for found in said if found][:1]
    return min(figures, default=None)
