import asyncio
import json
from pathlib import Path

from edge_agent.health_readings import measure, serve
from shared.clock import SystemClock
from shared.reading import Reading, parse_payload


def machine(root: Path, zones: dict[str, str]) -> Path:
    for number, (kind, milli) in enumerate(zones.items()):
        zone = root / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(kind + "\n")
        (zone / "temp").write_text(milli + "\n")
    (root / "proc").mkdir()
    (root / "proc/loadavg").write_text("0.52 0.58 0.59 1/467 12345\n")
    (root / "proc/meminfo").write_text("MemTotal:  8000000 kB\nMemAvailable:    4194304 kB\n")
    return root


def test_the_processor_is_preferred_to_other_zones(tmp_path: Path) -> None:
    root = machine(tmp_path, {"acpitz": "27800", "cpu-thermal": "48250"})
    found = measure(root, tmp_path)
    assert found.pop("disk_free_mib") > 0
    assert found == {"cpu_temperature_c": 48.2, "load_1m": 0.52, "memory_available_mib": 4096.0}


def test_the_first_plausible_zone_serves_where_none_is_the_processor(tmp_path: Path) -> None:
    root = machine(tmp_path, {"battery": "-274000", "acpitz": "27800", "wifi": "31000"})
    assert measure(root, tmp_path)["cpu_temperature_c"] == 27.8


def test_what_the_machine_has_not_is_left_out(tmp_path: Path) -> None:
    assert measure(tmp_path, tmp_path / "missing") == {}
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/loadavg").write_text("nonsense")
    (tmp_path / "proc/meminfo").write_text("nonsense")
    assert measure(tmp_path, tmp_path / "missing") == {}


async def test_readings_are_of_the_contract_and_numbered(tmp_path: Path) -> None:
    offered: list[tuple[str, bytes]] = []
    stopping = asyncio.Event()

    def offer(device: str, payload: bytes) -> None:
        offered.append((device, payload))
        if len(offered) == 3:
            stopping.set()

    async with asyncio.timeout(5):
        await serve(stopping, gateway="g1", offer=offer, clock=SystemClock(), data_dir=tmp_path, every_s=0.001)
    assert [device for device, _ in offered] == ["g1"] * 3
    seqs = [json.loads(payload)["seq"] for _, payload in offered]
    assert seqs == [seqs[0], seqs[0] + 1, seqs[0] + 2]
    (reading,) = parse_payload(offered[0][1])
    assert isinstance(reading, Reading)
    assert reading.metrics["disk_free_mib"] > 0  # type: ignore[operator]
    assert abs(reading.ts_ms - SystemClock().wall_ms()) < 60_000
