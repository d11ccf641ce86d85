"""Which time partitions must exist and which have expired. PURE: today is given.

A partition holds one UTC day of a table and bears its date: `telemetry_p20260131`. Names of another form are somebody
else's and are left alone.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

_NAME = re.compile(r"^(?P<table>[a-z_]+)_p(?P<day>\d{8})\Z")


@dataclass(frozen=True, slots=True)
class Partition:
    """One day of a table: from `day` 00:00 UTC until the next day's."""

    table: str
    day: date

    @property
    def name(self) -> str:
        """The partition's own table name."""
        return f"{self.table}_p{self.day:%Y%m%d}"

    @property
    def bounds(self) -> tuple[str, str]:
        """The first moment in it and the first after it, as Postgres reads them."""
        return f"{self.day.isoformat()} 00:00:00+00", f"{(self.day + timedelta(days=1)).isoformat()} 00:00:00+00"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make, then what to drop, both oldest first."""

    create: tuple[Partition, ...]
    drop: tuple[Partition, ...]


def parse(name: str) -> Partition | None:
    """The partition of this name, or None if it is none of ours."""
    found = _NAME.match(name)
    if found is None:
        return None
    digits = found["day"]
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None
    return Partition(found["table"], day)


def plan(table: str, existing: Iterable[str], today: date, *, ahead_days: int, keep_days: int) -> Plan:
    """What `table` lacks and no longer needs.

    It needs today and `ahead_days` more, so that a keeper may be away for that long, and the last `keep_days` days: a
    partition goes when its newest row is older than that.
    """
    assert ahead_days >= 1
    assert keep_days >= 1
    found = {partition for partition in map(parse, existing) if partition is not None and partition.table == table}
    wanted = {Partition(table, today + timedelta(days=ahead)) for ahead in range(ahead_days + 1)}
    oldest = today - timedelta(days=keep_days)
    expired = {partition for partition in found if partition.day < oldest}
    return Plan(
        tuple(sorted(wanted - found, key=lambda partition: partition.day)),
        tuple(sorted(expired, key=lambda partition: partition.day)),
    )
