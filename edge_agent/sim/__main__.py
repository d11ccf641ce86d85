"""`edge-sim`: run a simulated fleet against real brokers.

Exit status: 0 done and everything acknowledged, 1 something was never acknowledged or was refused, 2 usage or
configuration, 4 a device never reached its broker.
"""

import argparse
import asyncio
import csv
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from edge_agent.sim import plan as plans
from edge_agent.sim.faults import Fault, schedule
from edge_agent.sim.fleet import Endpoint, Fleet
from edge_agent.sim.journal import Journal
from shared.config import Secret, load, read_secret, setting
from shared.errors import HubError, Permanent

PROGRESS_S = 1.0
_EXAMPLES = """examples:
  edge-sim --devices 16 --local mqtt://127.0.0.1:1883 --local mqtt://127.0.0.1:1884 --rate 5 --duration 60
  edge-sim --keys keys.json --hub mqtt://127.0.0.1:1885 --faults spike,malformed --episodes 8 --seed 7
  edge-sim --plan plan.json --out run/ --json
"""


@dataclass(frozen=True, slots=True)
class SimConfig:
    """What `edge-sim` reads."""

    max_devices: int = setting(
        "SIM_MAX_DEVICES", "the most devices one run may have", default=plans.DEFAULT_MAX_DEVICES
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one fleet; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        config = load(SimConfig, {key: value for key, value in os.environ.items() if key == "SIM_MAX_DEVICES"})
        if args.devices > config.max_devices:  # before so many are even named
            raise Permanent(plans.too_many(args.devices, config.max_devices))
        plan = _plan(args)
        problems = plan.problems(config.max_devices)
        if problems:
            print("edge-sim: " + "; ".join(problems[:10]), file=sys.stderr)
            return 2
        return asyncio.run(_run(plan, args))
    except HubError as error:
        print(f"edge-sim: {error}", file=sys.stderr)
        return 2


async def _run(plan: plans.Plan, args: argparse.Namespace) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    columns = {source: _column(source) for source in {device.csv for device in plan.devices} if source}
    devices = [plans.device(device, plan, columns) for device in plan.devices]
    print(f"edge-sim: {len(devices)} devices, seed {plan.seed}, {len(plan.episodes)} faults", file=sys.stderr)
    with Journal(args.out) as journal:
        fleet = Fleet(devices, {device.id: _endpoint(device) for device in plan.devices}, journal)
        progress = asyncio.create_task(_progress(fleet))
        try:
            await fleet.run(args.duration, stopping, drain_s=args.drain)
        except* Permanent as group:
            raise group.exceptions[0] from group
        finally:
            progress.cancel()
    totals = asdict(fleet.totals) | {
        "unacknowledged": fleet.waiting,
        "started_ms": fleet.started_ms,
        "seed": plan.seed,
    }
    if args.json:
        print(msgspec.json.encode(totals).decode())
    else:
        print("  ".join(f"{name} {value}" for name, value in totals.items()))
    if fleet.strangers:
        print(f"edge-sim: {fleet.strangers} devices never reached their broker", file=sys.stderr)
        return 4
    return 1 if fleet.waiting or fleet.totals.refused or fleet.totals.forgotten else 0


async def _progress(fleet: Fleet) -> None:
    """One line that is written over, on a terminal; silent elsewhere."""
    while sys.stderr.isatty():
        totals = fleet.totals
        line = f"measured {totals.measured}  acknowledged {totals.acknowledged}  waiting {fleet.waiting}"
        print(f"\r{line:<70}", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(PROGRESS_S)


def _plan(args: argparse.Namespace) -> plans.Plan:
    if args.plan is not None:
        try:
            return plans.decode(args.plan.read_bytes())
        except OSError as error:
            raise Permanent(f"{args.plan}: {error.strerror}") from error
    if not args.rate > 0:
        raise Permanent("--rate is not above 0")
    keys = _keys(args.keys) if args.keys else {}
    if keys and not args.hub:
        raise Permanent("--keys needs --hub", hint="say which broker these keys are for")
    if args.gateways and args.gateways != len(args.local or ()):
        raise Permanent(f"--gateways {args.gateways} needs as many --local URLs")
    if not keys and not args.local:
        raise Permanent("nowhere to connect", hint="give --local for gateways' brokers, or --hub and --keys")
    behind = [f"{args.prefix}{number:04d}" for number in range(1, args.devices + 1)] if args.local else []
    source = None
    if args.csv is not None:
        source = plans.CsvSource(str(args.csv), args.column, args.offset)
    devices = [
        *(plans.DevicePlan(name, args.hub, key, source) for name, key in keys.items()),
        *(
            plans.DevicePlan(name, args.local[number % len(args.local)], None, source)
            for number, name in enumerate(behind)
        ),
    ]
    faults = [Fault(word) for word in args.faults.split(",") if word]
    episodes: tuple[plans.EpisodePlan, ...] = ()
    if faults and devices:
        made = schedule(
            [device.id for device in devices], faults, "temperature", args.episodes or len(faults),
            first_s=args.duration * 0.2, last_s=args.duration * 0.9, interval_s=1 / args.rate, seed=args.seed,
        )  # fmt: skip
        episodes = tuple(plans.EpisodePlan(e.device, e.fault, e.start_s, e.end_s, e.size, e.metric) for e in made)
    return plans.Plan(tuple(devices), episodes, 1 / args.rate, args.seed)


def _keys(path: Path) -> Mapping[str, str]:
    """`{"device id": "<key id>.<secret>"}` from a file that only its owner can read."""
    try:
        return msgspec.json.decode(read_secret(path), type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise Permanent(f"{path}: {error}", hint="one JSON object, device id to key") from None


def _endpoint(device: plans.DevicePlan) -> Endpoint:
    if device.key is None:
        return Endpoint(device.broker)
    username, _, secret = device.key.partition(".")
    return Endpoint(device.broker, username, Secret(secret))


def _column(source: plans.CsvSource) -> list[float]:
    try:
        with Path(source.path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if source.column not in (reader.fieldnames or ()):
                raise Permanent(
                    f"{source.path} has no column {source.column!r}: {', '.join(reader.fieldnames or ())}"
                )
            values = [float(row[source.column]) for row in reader if row[source.column]]
    except (OSError, ValueError) as error:
        raise Permanent(f"{source.path}: {error}") from error
    if not 0 <= source.offset < len(values):
        raise Permanent(f"{source.path}: row {source.offset} of {len(values)}")
    return values


def _fault_words(text: str) -> str:
    known = {fault.value for fault in Fault}
    unknown = [word for word in text.split(",") if word and word not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-sim",
        description="A simulated fleet over real MQTT.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--plan", type=Path, help="a whole run as JSON (docs/sim.md); the other choices of devices are then unused")
    add("--devices", type=int, default=1, help="how many devices behind the gateways (default 1)")
    add("--gateways", type=int, default=0, help="how many gateways; checked against the number of --local")
    add("--local", action="append", metavar="URL", help="a gateway's local broker; again for each gateway")
    add("--hub", metavar="URL", help="the hub's broker, for devices with keys of their own")
    add("--keys", type=Path, metavar="FILE", help='{"device id": "<key id>.<secret>"}, mode 0600')
    add("--prefix", default="sim-", help="how the ids of devices behind gateways begin (default sim-)")
    add("--rate", type=float, default=1.0, help="readings per second and device (default 1)")
    add("--duration", type=float, default=60.0, metavar="SECONDS", help="how long to measure (default 60)")
    add("--drain", type=float, default=30.0, metavar="SECONDS", help="then wait this long for acknowledgements")
    add("--csv", type=Path, metavar="FILE", help="replay measured temperatures, stamped now")
    add("--column", default="temperature", help="the CSV's column (default temperature)")
    add("--offset", type=int, default=0, help="the CSV's row to begin with")
    add("--faults", type=_fault_words, default="", help=f"of: {', '.join(Fault)}")
    add("--episodes", type=int, default=0, help="how many faults in all (default: each once)")
    add("--seed", type=int, default=1, help="the same seed makes the same faults (default 1)")
    add("--out", type=Path, default=Path("edge-sim"), help="folder for sent.jsonl and faults.jsonl")
    add("--json", action="store_true", help="the totals as one JSON object on standard output")
    return parser


if __name__ == "__main__":
    sys.exit(main())
