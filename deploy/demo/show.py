"""What the demo prints: progress on standard error, the table, the last line. PURE but for `Progress`."""

import json
import sys
from dataclasses import asdict

from deploy.demo.judge import Count


class Progress:
    """Lines on standard error; on a terminal the last one is written over."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._open = False

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._open:
            print(file=sys.stderr)
            self._open = False
        print(f"demo: {text}", file=sys.stderr, flush=True)

    def tick(self, text: str) -> None:
        """A line that the next one replaces; elsewhere than on a terminal it is just a line."""
        if self._live:
            print(f"\r{text:<100}", end="", file=sys.stderr, flush=True)
            self._open = True
        else:
            print(f"demo: {text}", file=sys.stderr, flush=True)


_ROWS = (
    ("accepted", "readings that a broker acknowledged to their device with reason code 0"),
    ("normalized", "of the fleet's readings, in iot.telemetry.normalized.v1"),
    ("rejected", "refused with a reason, in iot.telemetry.rejected.v1"),
    ("lost", "accepted, and in neither"),
    ("duplicates", "shown more than once"),
    ("unacknowledged", "arrived, though no acknowledgement reached their device"),
    ("for_nobody", "acknowledged with 0x10: a broker had nobody to give them to"),
    ("health", "the gateways' own records in normalized, counted in nothing above"),
    ("anomalies_injected", "episodes that edge-sim injected"),
    ("anomalies_detected", "found on the same device and metric"),
    ("false_alarms", "any other alarm"),
    ("p50_ms", "from send to visible for a read_committed reader, live"),
    ("p99_ms", "the same, 99th percentile (with ingest killed on the way)"),
    ("replay_p99_ms", "the same for what waited behind the cut link"),
)


def table(count: Count) -> str:
    """The figures, a line each."""
    values = asdict(count)
    return "\n".join(f"  {name:<20} {_shown(values[name]):>8}  {meaning}" for name, meaning in _ROWS)


def last_line(count: Count, **more: object) -> str:
    """One JSON object on one line."""
    return json.dumps(asdict(count) | more)


def error_line(why: str) -> str:
    """The last line of a run that came to no figures."""
    return json.dumps({"error": why})


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}"
