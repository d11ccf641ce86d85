"""`make bench`: measure, print a table, write bench.json.

    make bench                                             everything, RUNS times each (default 3)
    make bench ONLY=agent_rss_mb_plain                     the measurement that yields this figure
    make bench ONLY=broker                                 those whose figures begin so
    make bench ONLY=sustained TARGET=1000 DURATION_S=60    does the whole path hold this rate with nothing lost?

Exit status: 0 measured (and, for sustained, held), 1 a measurement failed or the target was not held, 2 wrong call.
"""

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from deploy.bench import agent, broker, ingest, limits, paths, registry, streams
from deploy.bench.report import Figure, Goal, document, figure, table
from shared.errors import HubError, Permanent

Measure = Callable[[int], dict[str, list[float]]]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One way to measure, and the figures it yields with their units."""

    measure: Measure
    yields: Mapping[str, str]


MEASUREMENTS = (
    Measurement(ingest.single_messages, {"ingest_single_msgs_per_s": "msgs/s", "ingest_cpu_us_per_msg": "us"}),
    Measurement(ingest.batched_readings, {"ingest_batched_readings_per_s": "readings/s"}),
    Measurement(limits.judging, {"rate_limit_us_per_msg": "us"}),
    Measurement(agent.intake, {"agent_intake_msgs_per_s": "msgs/s"}),
    Measurement(agent.drain, {"agent_drain_records_per_s_at_100ms": "records/s"}),
    Measurement(
        agent.steady,
        {
            "agent_rss_mb_plain": "MB",
            "agent_rss_mb_scoring": "MB",
            "bytes_written_per_reading": "bytes",
            "wire_bytes_per_reading": "bytes",
        },
    ),
    Measurement(paths.direct, {"e2e_direct_p50_ms": "ms", "e2e_direct_p99_ms": "ms"}),
    Measurement(paths.through_gateways, {"e2e_gateway_p99_ms": "ms"}),
    Measurement(streams.normalizer, {"normalizer_readings_per_s": "readings/s"}),
    Measurement(streams.sink, {"sink_rows_per_s": "rows/s"}),
    Measurement(
        broker.identities,
        {
            "broker_rebuild_s": "s",
            "broker_compare_s": "s",
            "revoke_to_closed_ms": "ms",
            "broker_publish_p99_ms_meanwhile": "ms",
            "broker_rotations_per_s": "commands/s",
        },
    ),
    Measurement(
        registry.reads,
        {
            "registry_get_p99_ms": "ms",
            "registry_list_p99_ms": "ms",
            "registry_get_p99_ms_100k": "ms",
            "registry_list_p99_ms_100k": "ms",
            "registry_get_p99_ms_10k": "ms",
            "registry_list_p99_ms_10k": "ms",
            "registry_get_1m_to_10k": "ratio",
            "registry_list_1m_to_10k": "ratio",
        },
    ),
    Measurement(
        registry.imports, {"registry_import_devices_per_s": "devices/s", "registry_import_keys_per_s": "devices/s"}
    ),
)

GOALS = {
    "ingest_single_msgs_per_s": Goal(at_least=True, value=15_000),
    "ingest_batched_readings_per_s": Goal(at_least=True, value=300_000),
    "rate_limit_us_per_msg": Goal(at_least=False, value=1),
    "agent_intake_msgs_per_s": Goal(at_least=True, value=8_000),
    "agent_drain_records_per_s_at_100ms": Goal(at_least=True, value=20_000),
    "agent_rss_mb_plain": Goal(at_least=False, value=36),
    "agent_rss_mb_scoring": Goal(at_least=False, value=48),
    "e2e_direct_p99_ms": Goal(at_least=False, value=150),
    "e2e_gateway_p99_ms": Goal(at_least=False, value=300),
    "normalizer_readings_per_s": Goal(at_least=True, value=50_000),
    "sink_rows_per_s": Goal(at_least=True, value=30_000),
    "broker_rebuild_s": Goal(at_least=False, value=10),
    "revoke_to_closed_ms": Goal(at_least=False, value=1_000),
    "broker_publish_p99_ms_meanwhile": Goal(at_least=False, value=100),
    "registry_get_p99_ms": Goal(at_least=False, value=20),
    "registry_list_p99_ms": Goal(at_least=False, value=20),
    "registry_import_devices_per_s": Goal(at_least=True, value=20_000),
    "registry_import_keys_per_s": Goal(at_least=True, value=3_000),
}

SUSTAINED = "sustained"
SUSTAINED_UNITS = {"sustained_readings_per_s": "readings/s", "sustained_p99_ms": "ms"}


def main() -> int:
    """Measure what is asked for; returns the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends us ends our servers too
    try:
        measurements, runs = chosen(os.environ)
    except HubError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    failed = False
    for item in measurements:
        print(f"bench: {', '.join(item.yields)}", file=sys.stderr, flush=True)
        try:
            values = item.measure(runs)
        except Exception as error:  # noqa: BLE001 - one measurement's failure costs no other's figures
            print(f"bench: failed: {error if isinstance(error, HubError) else repr(error)}", file=sys.stderr)
            failed = True
            continue
        figures += [figure(name, unit, values[name]) for name, unit in item.yields.items()]
    print(table(figures, GOALS))
    Path("bench.json").write_text(
        json.dumps(document(figures, machine(), versions()), indent=2) + "\n", encoding="utf-8"
    )
    return 1 if failed else 0


def chosen(env: Mapping[str, str]) -> tuple[list[Measurement], int]:
    """The measurements that ONLY names, and RUNS. Raises Permanent for an unknown name or an unfit number."""
    try:
        runs = int(env.get("RUNS") or 3)
        target, duration_s = float(env.get("TARGET") or 1_000), float(env.get("DURATION_S") or 60)
    except ValueError as error:
        raise Permanent(f"RUNS, TARGET and DURATION_S are numbers: {error}") from error
    if runs < 1 or not target > 0 or not duration_s > 0:
        raise Permanent("RUNS, TARGET and DURATION_S are above 0")
    only = env.get("ONLY")
    if not only:
        return list(MEASUREMENTS), runs
    if only == SUSTAINED:
        return [Measurement(lambda _: paths.sustained(target, duration_s), SUSTAINED_UNITS)], 1
    found = [item for item in MEASUREMENTS if only in item.yields or only == _room(item)]
    if not found:
        names = sorted(name for item in MEASUREMENTS for name in item.yields)
        raise Permanent(f"ONLY={only} names no figure", hint=f"one of: {', '.join([*names, SUSTAINED])}")
    return found, runs


def _room(item: Measurement) -> str:
    """The last part of the module that measures it: `ONLY=limits` runs all of that one."""
    return item.measure.__module__.rpartition(".")[2]


def machine() -> dict[str, Any]:
    """What was measured on; nothing that names the host."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """The libraries and servers that decide the figures."""
    names = ("aiomqtt", "paho-mqtt", "aiokafka", "quixstreams", "asyncpg", "msgspec", "river")
    found = {name: metadata.version(name) for name in names}
    said = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True, check=False).stdout
    found["mosquitto"] = said.splitlines()[0].rpartition(" ")[2] if said else "absent"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    found["commit"] = commit.stdout.strip() or "none"
    return found


if __name__ == "__main__":
    sys.exit(main())
