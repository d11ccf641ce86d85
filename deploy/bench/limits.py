"""What the limits cost ingest: judging one message of a device that is within its rates."""

import time

from control_plane.ingest.limits import Book, Limiter, Meter
from shared.device import Kind
from shared.ids import DeviceId
from shared.rates import Defaults, Rates

MESSAGES = 2_000_000
DEVICES = 1_000
_READ = 200
"""Messages of one read."""


def judging(runs: int) -> dict[str, list[float]]:
    """Microseconds a message, many devices in turn, all of them allowed."""
    return {"rate_limit_us_per_msg": [_run() for _ in range(runs)]}


def _run() -> float:
    book = Book()
    book.learn_defaults(Defaults(1, Rates(1e6, 1e9, 1e6), Rates(1e6, 1e9, 1e6)))
    limiter = Limiter(book, time.monotonic())
    limiter.opened(time.monotonic())
    meters = [Meter(DeviceId(f"d{number}"), Kind.DEVICE) for number in range(DEVICES)]
    allowed = 0
    started = time.perf_counter()
    for first in range(0, MESSAGES, _READ):
        limiter.tick(time.monotonic(), _READ * 120, _READ, waiting=False)
        for number in range(first, first + _READ):
            allowed += limiter.direct(meters[number % DEVICES], 120)
    took_s = time.perf_counter() - started
    assert allowed == MESSAGES, "this is the price of the allowed path"
    return took_s / MESSAGES * 1e6
