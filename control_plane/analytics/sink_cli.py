"""`hub analytics detector|forwarder|sink`, `hub telemetry`, `hub anomalies`."""

import argparse
import asyncio
import os
import sys
import time
from dataclasses import dataclass

from control_plane.analytics.records import NormalizedReading
from shared.config import ConfigError, Secret, load, setting
from shared.envelope import rfc3339
from shared.errors import Rejected
from shared.reading import parse_ts

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def register(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    jobs: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add `detector`, `forwarder` and `sink` to the jobs, and the other commands."""
    _add_jobs(jobs)
    _add_telemetry(commands)
    _add_anomalies(commands)


def _add_jobs(jobs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    detector = jobs.add_parser(
        "detector",
        help="find anomalies",
        description="Raise anomalies from edge verdicts, device types' limits and the hub's own score.",
        epilog="example: hub analytics detector",
    )
    detector.set_defaults(run=_detector)
    forwarder = jobs.add_parser(
        "forwarder",
        help="tell inventory of changes of stock",
        description="Turn readings into changes of stock by the rules in HUB_INVENTORY_RULES_FILE.",
        epilog="example: HUB_INVENTORY_RULES_FILE=rules.toml hub analytics forwarder",
    )
    forwarder.set_defaults(run=_forwarder)
    sink = jobs.add_parser(
        "sink",
        help="telemetry and anomalies into Postgres",
        description="Store normalised telemetry and anomalies in Postgres, and look after the time partitions.",
        epilog="example: HUB_TELEMETRY_DAYS=90 hub analytics sink",
    )
    sink.add_argument(
        "--start-over",
        action="store_true",
        help="read a topic from its beginning if its log ends before what was stored of it (Kafka was replaced)",
    )
    sink.set_defaults(run=_sink)


def _add_telemetry(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    telemetry = commands.add_parser("telemetry", help="look at telemetry").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    tail = telemetry.add_parser(
        "tail",
        help="show normalised readings as they come",
        description="Show normalised readings as they become visible, until Ctrl-C.",
        epilog="example: hub telemetry tail --device t-1 --since 10m",
    )
    tail.add_argument("--device", metavar="ID", help="only this device")
    tail.add_argument(
        "--since", metavar="TIME", help="from this time on: 2026-01-31T12:00:00Z, or 90s, 10m, 2h, 1d ago"
    )
    tail.add_argument("--count", type=_positive, metavar="N", help="end after so many readings")
    tail.add_argument("--json", action="store_true", help="print each reading's JSON on a line")
    tail.set_defaults(run=_tail)


def _add_anomalies(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    anomalies = commands.add_parser(
        "anomalies",
        help="list anomalies",
        description="List anomalies that were detected, the latest first.",
        epilog="example: hub anomalies --since 1d --device t-1",
    )
    anomalies.add_argument("--device", metavar="ID", help="only this device's")
    anomalies.add_argument(
        "--since", metavar="TIME", help="measured since: 2026-01-31T12:00:00Z, or 90s, 10m, 2h, 1d ago"
    )
    anomalies.add_argument("--limit", type=_positive, default=50, metavar="N", help="the most to show (50)")
    anomalies.add_argument("--json", action="store_true", help="print each anomaly as JSON on a line")
    anomalies.set_defaults(run=_anomalies)


@dataclass(frozen=True, slots=True)
class TailConfig:
    """What `hub telemetry tail` reads."""

    kafka_bootstrap: str = setting("HUB_KAFKA_BOOTSTRAP", "Kafka, host:port")


@dataclass(frozen=True, slots=True)
class AnomaliesConfig:
    """What `hub anomalies` reads."""

    database_url: Secret = setting("HUB_DATABASE_URL", "postgresql://user:password@host:port/database")


def since_ms(text: str | None, now_ms: int) -> int | None:
    """Epoch milliseconds of a time or of a time ago. Raises ConfigError, because it is the user's word."""
    if text is None:
        return None
    if text[:-1].isdecimal() and text[-1] in _UNITS_S and len(text) < 10:
        return max(0, now_ms - int(text[:-1]) * _UNITS_S[text[-1]] * 1_000)
    found = parse_ts(text)
    if isinstance(found, Rejected):
        raise ConfigError([f"--since {text!r}: {found.detail}; or a time ago, such as 90s, 10m, 2h, 1d"])
    return found


def _tail(args: argparse.Namespace) -> int:
    from control_plane.analytics import telemetry_tail  # noqa: PLC0415

    def say(reading: NormalizedReading, value: bytes) -> None:
        _print(value.decode() if args.json else telemetry_tail.as_line(reading))

    config = load(TailConfig, os.environ)
    since = since_ms(args.since, time.time_ns() // 1_000_000)
    options = telemetry_tail.TailOptions(args.device, since, args.count)
    asyncio.run(telemetry_tail.tail(config.kafka_bootstrap, options, say))
    return 0


def _anomalies(args: argparse.Namespace) -> int:
    from control_plane.analytics import anomaly_list  # noqa: PLC0415

    config = load(AnomaliesConfig, os.environ)
    since = since_ms(args.since, time.time_ns() // 1_000_000)
    found = asyncio.run(anomaly_list.anomalies(config.database_url, args.device, since, args.limit))
    for anomaly in found:
        _print(anomaly_list.as_json(anomaly) if args.json else anomaly_list.as_line(anomaly))
    if not found and not args.json:
        sys.stderr.write("no anomalies" + (f" since {rfc3339(since)}" if since is not None else "") + "\n")
    return 0


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()  # who pipes it to a program wants it now


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("is not at least 1")
    return number


# A job's libraries are not every command's: each is imported when it runs.


def _detector(args: argparse.Namespace) -> int:
    from control_plane.analytics import detector_job  # noqa: PLC0415

    del args
    return detector_job.main(os.environ)


def _forwarder(args: argparse.Namespace) -> int:
    from control_plane.analytics import forwarder_job  # noqa: PLC0415

    del args
    return forwarder_job.main(os.environ)


def _sink(args: argparse.Namespace) -> int:
    from control_plane.analytics import sink_job  # noqa: PLC0415

    return sink_job.main(os.environ, start_over=args.start_over)
