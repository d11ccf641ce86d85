"""Figures of several runs and how they are shown. PURE."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity over its runs."""

    name: str
    unit: str
    min: float
    median: float
    max: float
    runs: int


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should reach: at least or at most `value`."""

    at_least: bool
    value: float

    def reached(self, figure: Figure) -> bool:
        """Whether the median does."""
        return figure.median >= self.value if self.at_least else figure.median <= self.value


def figure(name: str, unit: str, values: Sequence[float]) -> Figure:
    """The figure of these runs, one value each."""
    assert values
    return Figure(name, unit, min(values), statistics.median(values), max(values), len(values))


def table(figures: Sequence[Figure], goals: Mapping[str, Goal]) -> str:
    """A line per figure: its median, spread, and the goal beside it with whether it was reached."""
    lines = [f"{'figure':<38} {'median':>12} {'min':>12} {'max':>12}  {'unit':<12} goal"]
    for item in figures:
        goal = goals.get(item.name)
        note = ""
        if goal is not None:
            sign = ">=" if goal.at_least else "<="
            note = f"{sign} {goal.value:g} {'reached' if goal.reached(item) else 'MISSED'}"
        lines.append(
            f"{item.name:<38} {_short(item.median):>12} {_short(item.min):>12} {_short(item.max):>12}  "
            f"{item.unit:<12} {note}".rstrip()
        )
    return "\n".join(lines)


def document(figures: Sequence[Figure], machine: Mapping[str, Any], versions: Mapping[str, str]) -> dict[str, Any]:
    """What `bench.json` holds."""
    return {
        "machine": dict(machine),
        "versions": dict(versions),
        "results": [asdict(item) for item in figures],
    }


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
