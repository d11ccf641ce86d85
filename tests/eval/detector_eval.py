"""How good the edge detector is, on real series: run it on the packaged ones, or on labelled files of your own.

    python -m tests.eval.detector_eval inject                      # faults injected as in the demo
    python -m tests.eval.detector_eval inject --series FILE.csv --column temp --warm 1000 --interval 0.2
    python -m tests.eval.detector_eval labelled FILES… --value temperature --label label --interval 5
    python -m tests.eval.detector_eval synthetic                   # 60 days of ten kinds of channel: alarms, delays
    python -m tests.eval.detector_eval cost                        # microseconds, bytes and memory per channel

Everything goes through `Scorer`, as in the agent; `--model` chooses one of River's models instead. Each figure comes
with its spread. A labelled file is CSV: one row a sample, a value column, a column that is 1 within an event, and
optionally a column that is 0 in the part that is history (`--split`).
"""

import argparse
import csv
import gc
import math
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge_agent.anomaly.models import EDGE
from edge_agent.anomaly.scorer import Scorer
from edge_agent.warm import read_column, warm
from shared.errors import Rejected

NOW_S = 1_790_000_000.0
GRACE_S = 10.0
"""An alarm so long after an episode's end still belongs to it."""

KINDS = ("spike", "level_shift", "noise_burst")
LABEL_GRACE = 60
"""Samples around a labelled event in which an alarm belongs to it (12 before, so many after)."""

PACKAGED = {"sf-temps": "sf-temps.csv", "seattle-temps": "seattle-temps.csv"}


# -- series -------------------------------------------------------------------------------------------------------


def series(name: str, column: str) -> list[float]:
    """A packaged series by name, or a column of a CSV file."""
    if name == "waterflow":
        from river.datasets import WaterFlow  # loads pandas and more: only for who asks

        make: Any = WaterFlow  # has no types
        return [flow for _, flow in make()]
    path = Path(name)
    if name in PACKAGED:
        spec = find_spec("vega_datasets")
        assert spec is not None
        assert spec.origin is not None
        path = Path(spec.origin).parent / "_data" / PACKAGED[name]
    values = read_column(path, column)
    if isinstance(values, Rejected):
        raise SystemExit(values.detail)
    return [value for value in values if math.isfinite(value)]


def robust_sigma(values: Sequence[float]) -> float:
    middle = statistics.median(values)
    return 1.4826 * statistics.median(abs(value - middle) for value in values)


# -- injected faults ----------------------------------------------------------------------------------------------


@dataclass
class Tally:
    found: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    false_alarms: int = 0
    readings: int = 0

    @property
    def hit_rate(self) -> float:
        return sum(self.found.values()) / max(1, sum(self.injected.values()))

    @property
    def false_per_1000(self) -> float:
        return 1_000 * self.false_alarms / max(1, self.readings)


@dataclass(frozen=True)
class Experiment:
    """One fleet's run: devices, rows to warm with, live rows, seconds between rows, sizes in robust sigmas."""

    devices: int = 20
    warm: int = 1_000
    live: int = 300
    interval_s: float = 0.2
    sizes: tuple[float, float] = (5.0, 8.0)
    share_of_devices: float = 0.6
    stay: bool = False  # level shifts do not come back
    model: str = EDGE


def inject(values: Sequence[float], run: Experiment, seed: int) -> Tally:
    """Warm each device's channel on a slice of the series, replay what follows with faults in it, count."""
    draw = random.Random(seed)
    scorer = Scorer(model=run.model)
    tally = Tally()
    span = run.warm + run.live
    if len(values) < span:
        raise SystemExit(f"the series has {len(values)} rows; {span} are needed: lower --warm or --live")
    for device in range(run.devices):
        start = draw.randrange(len(values) - span + 1)
        history = values[start : start + run.warm]
        live = list(values[start + run.warm : start + span])
        episodes = _faults(live, robust_sigma(history), run, draw)
        name = f"d{device}"
        warm(scorer, history, device_id=name, metric="m", interval_s=run.interval_s, now_s=NOW_S - run.interval_s)
        found = set()
        for number, value in enumerate(live):
            if scorer.score(name, "m", NOW_S + number * run.interval_s, value) is None:
                continue
            grace = GRACE_S / run.interval_s
            hit = [i for i, (_, begin, end) in enumerate(episodes) if begin <= number <= end + grace]
            found.update(hit[-1:])
            tally.false_alarms += not hit
        tally.readings += run.live
        tally.injected.update(kind for kind, _, _ in episodes)
        tally.found.update(episodes[index][0] for index in found)
    return tally


def _faults(live: list[float], sigma: float, run: Experiment, draw: random.Random) -> list[tuple[str, int, int]]:
    """Spoil `live` in place; returns kind, first and last row of each episode."""
    episodes: list[tuple[str, int, int]] = []
    at = draw.randrange(20, 60)
    while at < len(live) - 60:
        if draw.random() < run.share_of_devices:
            kind = draw.choice(KINDS)
            rows = 1 if kind == "spike" else draw.randrange(10, 50)
            size = draw.uniform(*run.sizes) * sigma * draw.choice((-1, 1))
            last = len(live) - 1 if run.stay and kind == "level_shift" else at + rows - 1
            for row in range(at, last + 1):
                live[row] += draw.gauss(0.0, abs(size)) if kind == "noise_burst" else size
            episodes.append((kind, at, at + rows - 1))
            at += rows
        at += draw.randrange(60, 150)
    return episodes


def _inject_command(args: argparse.Namespace) -> None:
    values = series(args.series, args.column)
    first, last = (int(part) for part in args.seeds.split("-"))
    say(f"{args.series}: {len(values)} rows, one every {args.interval} s, seeds {args.seeds}, model {args.model}")
    say(f"{'warm':>6} {'live':>6} {'shifts':>7}  {'found':>6} {'worst':>6}  {'false/1000':>10} {'worst':>6}  by kind")
    for warm_rows in args.warm:
        for live, stay in ((args.live, False), (args.live, True), (5 * args.live, False)):
            run = Experiment(args.devices, warm_rows, live, args.interval, stay=stay, model=args.model)
            if len(values) < warm_rows + live:
                continue
            tallies = [inject(values, run, seed) for seed in range(first, last + 1)]
            total = Tally()
            for tally in tallies:
                total.found.update(tally.found)
                total.injected.update(tally.injected)
                total.false_alarms += tally.false_alarms
                total.readings += tally.readings
            kinds = ", ".join(f"{kind} {total.found[kind]}/{total.injected[kind]}" for kind in KINDS)
            say(
                f"{warm_rows:>6} {live:>6} {'stay' if stay else 'return':>7}  {total.hit_rate:>6.1%}"
                f" {min(tally.hit_rate for tally in tallies):>6.1%}  {total.false_per_1000:>10.2f}"
                f" {max(tally.false_per_1000 for tally in tallies):>6.2f}  {kinds}"
            )


# -- labelled files -----------------------------------------------------------------------------------------------


def alarms(values: Sequence[float], interval_s: float, model: str = EDGE) -> list[tuple[int, str]]:
    """Row and reason of each alarm, from a cold start."""
    scorer = Scorer(model=model)
    found = []
    for number, value in enumerate(values):
        verdict = scorer.score("d", "m", NOW_S + number * interval_s, value)
        if verdict is not None:
            found.append((number, verdict.reason))
    return found


def _labelled_command(args: argparse.Namespace) -> None:
    found = events = false_alarms = in_history = rows_judged = 0
    for path in args.files:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        values = [float(row[args.value]) for row in rows]
        spans = list(_spans([row[args.label].strip() in {"1", "1.0"} for row in rows]))
        history = sum(row[args.split].strip() == "0" for row in rows) if args.split else 0
        hit: set[int] = set()
        for row, _ in alarms(values, args.interval, args.model):
            inside = [i for i, (begin, end) in enumerate(spans) if begin - 12 <= row <= end + LABEL_GRACE]
            hit.update(inside)
            if not inside:
                in_history += row < history
                false_alarms += row >= history
        found, events = found + len(hit), events + len(spans)
        rows_judged += len(rows)
    say(
        f"{len(args.files)} channels, {rows_judged} rows, model {args.model}: {found} of {events} events found,"
        f" {false_alarms} false alarms" + (f", {in_history} alarms in the history" if args.split else "")
    )


def _spans(labels: Sequence[bool]) -> Iterator[tuple[int, int]]:
    begin = None
    quiet = 0
    for row, label in enumerate([*labels, *([False] * (LABEL_GRACE + 1))]):
        if label:
            begin, quiet = row if begin is None else begin, 0
        elif begin is not None:
            quiet += 1
            if quiet > LABEL_GRACE:
                yield begin, row - quiet
                begin = None


# -- synthetic channels -------------------------------------------------------------------------------------------

DAY = 288  # samples of five minutes
DAYS = 60


def _daily(draw: random.Random, rows: int) -> list[float]:
    weather, values = 0.0, []
    for row in range(rows):
        weather = 0.999 * weather + draw.gauss(0, 0.08)
        values.append(round(20 + 6 * math.sin(2 * math.pi * row / DAY) + weather + draw.gauss(0, 0.1), 2))
    return values


def _walk(draw: random.Random, rows: int) -> list[float]:
    value, values = 0.0, []
    for _ in range(rows):
        value += draw.gauss(0, 0.1)
        values.append(value)
    return values


def _battery(draw: random.Random, rows: int) -> list[float]:
    return [round(4.1 - 0.6 * row / rows + draw.gauss(0, 0.004), 3) for row in range(rows)]


def _office(draw: random.Random, rows: int) -> list[float]:
    def busy(row: int) -> bool:
        return row // DAY % 7 < 5 and 8 * 12 <= row % DAY < 18 * 12

    return [round(20 + 2 * busy(row) + draw.gauss(0, 0.2), 1) for row in range(rows)]


def _thermostat(draw: random.Random, rows: int) -> list[float]:
    heating, value, values = True, 21.0, []
    for _ in range(rows):
        value += (0.15 if heating else -0.1) * draw.uniform(0.7, 1.3)
        heating = value < 20 or (heating and value <= 22)
        values.append(round(value + draw.gauss(0, 0.03), 2))
    return values


QUIET: dict[str, Callable[[random.Random, int], list[float]]] = {
    "daily swing and weather": _daily,
    "random walk": _walk,
    "battery discharge": _battery,
    "office hours": _office,
    "thermostat": _thermostat,
    "white noise": lambda draw, rows: [draw.gauss(0, 1) for _ in range(rows)],
    "heavy-tailed noise": lambda draw, rows: [draw.gauss(0, 1) * math.exp(draw.gauss(0, 0.5)) for _ in range(rows)],
    "signal strength (integers)": lambda draw, rows: [float(round(-70 + draw.gauss(0, 2))) for _ in range(rows)],
    "constant": lambda _, rows: [5.0] * rows,
    "counter": lambda _, rows: [float(row) for row in range(rows)],
}


def _synthetic_command(args: argparse.Namespace) -> None:
    say(f"alarms in {DAYS} days of one sample in 5 min, {args.channels} channels each, all of them false")
    say(f"{'kind':<28} {'median':>6} {'max':>4}  {'in the first 2 days':>19}  reasons")
    for kind, make in QUIET.items():
        runs = [alarms(make(random.Random(seed), DAYS * DAY), 300.0, args.model) for seed in range(args.channels)]
        reasons = Counter(reason for run in runs for _, reason in run)
        early = sum(row < 2 * DAY for run in runs for row, _ in run)
        counts = [len(run) for run in runs]
        say(f"{kind:<28} {statistics.median(counts):>6.1f} {max(counts):>4}  {early:>19}  {dict(reasons)}")
    say(f"\nfaults on day 20 of a daily swing, {args.channels} channels each: found, and after how many samples")
    for fault, spoil in FAULTS.items():
        delays = [_delay(spoil, seed, args.model) for seed in range(args.channels)]
        known = sorted(delay for delay in delays if delay is not None)
        text = f"median {statistics.median(known):g}, max {known[-1]}" if known else ""
        say(f"{fault:<40} {len(known)}/{len(delays)}  {text}")


def _delay(spoil: Callable[[list[float], int, random.Random], int], seed: int, model: str) -> int | None:
    draw = random.Random(seed)
    values = _daily(draw, 23 * DAY)
    begin = 20 * DAY + draw.randrange(DAY)
    end = spoil(values, begin, draw)
    found = [row - begin for row, _ in alarms(values[: end + 12], 300.0, model) if row >= begin]
    return found[0] if found else None


def _spike(values: list[float], begin: int, draw: random.Random) -> int:
    values[begin] += 1.5 * draw.choice((-1, 1))
    return begin


def _shift(values: list[float], begin: int, draw: random.Random) -> int:
    size = 1.5 * draw.choice((-1, 1))
    for row in range(begin, begin + 100):
        values[row] += size
    return begin + 100


def _burst(values: list[float], begin: int, draw: random.Random) -> int:
    for row in range(begin, begin + 48):
        values[row] += draw.gauss(0, 0.6)
    return begin + 48


def _stuck(values: list[float], begin: int, draw: random.Random) -> int:
    del draw
    values[begin : begin + 48] = [values[begin]] * 48
    return begin + 48


def _glitch(values: list[float], begin: int, draw: random.Random) -> int:
    values[begin] = draw.choice((-127.0, 85.0))
    return begin


def _drift(values: list[float], begin: int, draw: random.Random) -> int:
    del draw
    for row in range(begin, begin + 2 * DAY):
        values[row] += 8.0 * (row - begin) / (2 * DAY)
    return begin + 2 * DAY


FAULTS = {
    "spike of 1.5 (noise 0.1, weather 0.08)": _spike,
    "level shift of 1.5": _shift,
    "noise burst, 6 times the noise": _burst,
    "stuck": _stuck,
    "glitch -127 or 85": _glitch,
    "drift of 8 in two days (swing +-6)": _drift,
}


# -- cost ---------------------------------------------------------------------------------------------------------


def _resident_kib() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def _cost_command(args: argparse.Namespace) -> None:
    for kind in ("white noise", "daily swing and weather", "constant"):
        for interval_s in (300.0, 0.2):
            values = QUIET[kind](random.Random(1), 24_000)
            runs = []
            for _ in range(args.runs):
                scorer = Scorer(model=args.model)
                for row in range(4_000):
                    scorer.score("d", "m", NOW_S + row * interval_s, values[row])
                begin = time.process_time()
                for row in range(4_000, 24_000):
                    scorer.score("d", "m", NOW_S + row * interval_s, values[row])
                runs.append((time.process_time() - begin) / 20_000 * 1e6)
            say(
                f"{kind}, one sample in {interval_s:g} s: {min(runs):.1f} us a score"
                f" (median {statistics.median(runs):.1f}, max {max(runs):.1f})"
            )
    histories = [_daily(random.Random(channel), 5 * DAY) for channel in range(args.channels)]
    gc.collect()
    before = _resident_kib()
    scorer = Scorer(model=args.model)
    for channel, history in enumerate(histories):
        for row, value in enumerate(history):
            scorer.score(f"d{channel}", "m", NOW_S + row * 300.0, value)
    resident = (_resident_kib() - before) / args.channels
    stored = len(scorer.snapshot()) / args.channels / 1024
    say(f"{args.channels} channels of five days: {resident:.1f} KiB resident and {stored:.1f} KiB stored each")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    inject_ = commands.add_parser("inject", help="faults injected into a real series")
    inject_.add_argument("--series", default="sf-temps", help="sf-temps, seattle-temps, waterflow, or a CSV file")
    inject_.add_argument("--column", default="temp")
    inject_.add_argument("--warm", type=int, nargs="+", default=[500, 1_000, 4_000])
    inject_.add_argument("--live", type=int, default=300)
    inject_.add_argument("--interval", type=float, default=0.2)
    inject_.add_argument("--devices", type=int, default=20)
    inject_.add_argument("--seeds", default="100-109", help="first-last; 0 to 9 were used for tuning")
    inject_.set_defaults(run=_inject_command)
    labelled = commands.add_parser("labelled", help="labelled CSV files")
    labelled.add_argument("files", nargs="+")
    labelled.add_argument("--value", required=True)
    labelled.add_argument("--label", default="label")
    labelled.add_argument("--split", help="column that is 0 in the part that is history")
    labelled.add_argument("--interval", type=float, required=True, help="seconds between rows")
    labelled.set_defaults(run=_labelled_command)
    synthetic = commands.add_parser("synthetic", help="60 days of made channels")
    synthetic.add_argument("--channels", type=int, default=12)
    synthetic.set_defaults(run=_synthetic_command)
    cost = commands.add_parser("cost", help="time and memory")
    cost.add_argument("--runs", type=int, default=5)
    cost.add_argument("--channels", type=int, default=200)
    cost.set_defaults(run=_cost_command)
    for command in (inject_, labelled, synthetic, cost):
        command.add_argument("--model", default=EDGE)
    args = parser.parse_args(argv)
    args.run(args)


if __name__ == "__main__":
    main()
