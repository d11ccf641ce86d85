"""Who is killed when, and what the count of such a run must show. PURE: everything follows from the seed."""

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from deploy.demo.judge import Place, Visible


class Victim(StrEnum):
    """What is killed with SIGKILL."""

    AGENT = "agent"
    BROKER = "broker"  # the hub's Mosquitto
    INGEST = "ingest"
    KAFKA = "kafka"
    POSTGRES = "postgres"
    NORMALIZER = "normalizer"
    DETECTOR = "detector"
    FORWARDER = "forwarder"
    SINK = "sink"
    API = "api"
    LINK = "link"  # cut for a moment, not killed


@dataclass(frozen=True, slots=True)
class Kill:
    """Wait `after_s` seconds, then kill `victim`. `which` picks one where there are several."""

    victim: Victim
    after_s: float
    which: int


def matrix(victims: Sequence[Victim], times: int, seed: int, *, least_s: float, most_s: float) -> list[Kill]:
    """Each victim `times` times, in random order, after random pauses."""
    draw = random.Random(seed)
    order = [victim for victim in victims for _ in range(times)]
    draw.shuffle(order)
    return [Kill(victim, draw.uniform(least_s, most_s), draw.randrange(1_000)) for victim in order]


def disorder(visible: Collection[Visible]) -> int:
    """Readings that stand behind a later one of the same device and lane; `visible` in the order of the topic."""
    newest: dict[tuple[str, str], int] = defaultdict(lambda: -1)
    found = 0
    for item in visible:
        if item.n is None:
            continue
        key = (item.device, item.lane)
        found += item.n < newest[key]
        newest[key] = max(newest[key], item.n)
    return found


@dataclass(frozen=True, slots=True)
class Stored:
    """The table `telemetry` against `normalized`: readings in the topic alone, in the table again, in it alone."""

    missing: int
    again: int
    unknown: int

    @property
    def agrees(self) -> bool:
        """Whether each reading is in both, once."""
        return not (self.missing or self.again or self.unknown)


def stored(rows: Mapping[Place, int], visible: Collection[Visible]) -> Stored:
    """Compare how often each reading has a row with what a reader saw; the gateways' own records are left out."""
    seen = {item.place for item in visible if item.place is not None}
    return Stored(
        missing=len(seen - rows.keys()),
        again=sum(times - 1 for times in rows.values()),
        unknown=len(rows.keys() - seen),
    )
