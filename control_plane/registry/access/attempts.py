"""How often somebody may fail to prove who they are: token buckets, of failures only, in bounded memory. PURE.

Two budgets stand beside each other: one per address that asks, one per name (a token's id, a key's id) that is tried.
Who never fails is never known here.
"""

import ipaddress
import math
from dataclasses import dataclass
from enum import StrEnum

from shared.bounded import Bounded


class Failure(StrEnum):
    """Why somebody is not who they say; for metrics only, strangers are told one and the same."""

    MISSING = "missing"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    WRONG = "wrong"
    EXPIRED = "expired"
    REVOKED = "revoked"
    BARRED = "barred"
    """The secret is right, and its device may not connect (suspended, quarantined, retired)."""


@dataclass(frozen=True, slots=True)
class Budget:
    """`burst` failures at once, then one each `every_s` seconds; at most `remembered` names are held."""

    burst: int
    every_s: float
    remembered: int = 10_000


PER_SOURCE = Budget(burst=30, every_s=2.0)
PER_NAME = Budget(burst=10, every_s=6.0)


class Buckets:
    """One bucket a name. A name that was not heard of for long, or longest of all when there is no room, is new."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._spent: Bounded[str, tuple[float, float]] = Bounded(budget.remembered)  # not yet forgiven, when

    def __len__(self) -> int:
        return len(self._spent)

    def wait_s(self, name: str, now: float) -> float:
        """Seconds until the name may fail again; 0 if it may now. `now` in seconds, never backwards."""
        over = self._owed(name, now) + 1 - self._budget.burst
        return max(0.0, over * self._budget.every_s)

    def spend(self, name: str, now: float) -> None:
        """The name failed once more. A bucket that is empty stays so: to be refused is no further failure."""
        owed = min(self._owed(name, now) + 1, float(self._budget.burst))
        self._spent.keep(name, (owed, now))

    def _owed(self, name: str, now: float) -> float:
        owed, at = self._spent.get(name, (0.0, now))
        return max(0.0, owed - (now - at) / self._budget.every_s)


def neighbourhood(source: str | None) -> str:
    """Whose budget an address uses: its own; of IPv6 its /64, within which one host has as many as it likes."""
    try:
        address = ipaddress.ip_address((source or "").partition("%")[0])
    except ValueError:
        return source or ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def retry_after_s(wait_s: float) -> int:
    """Whole seconds for Retry-After, at least 1."""
    return max(1, math.ceil(wait_s))
