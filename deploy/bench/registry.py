"""The registry: how long a device or a list takes in fleets of three sizes, and how fast a file of devices enters.

Devices are made by SQL in the bench's own database, asked for by REST. The load is one client, one request after the
other: latency, not throughput.
"""

import asyncio
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from control_plane.registry.paging import next_cursor
from deploy.bench.rig import Rig
from deploy.demo.judge import percentile
from shared.errors import Permanent, Transient

SIZES = (10_000, 100_000, 1_000_000)
GATEWAY_EVERY = 100
REQUESTS = 400
WARM = 40
PLAIN, WITH_KEYS = 100_000, 30_000
"""Lines of an import without and with keys."""
_FILL_S = 1_800.0
_ALPHABET = "0123456789abcdef"


def reads(runs: int) -> dict[str, list[float]]:
    """p99 of one device and of a page of 100 by any filter, at each size, and how much the largest costs over the
    smallest.
    """
    values: dict[str, list[float]] = {}
    with Rig() as rig, rig.service("ingest"), rig.service("api"):
        for size in SIZES:
            asyncio.run(_fill(rig, size))
            with _client(rig) as rest:
                for run in range(runs):
                    dice = random.Random(run)
                    got = _p99(rest, _one(dice, size))
                    listed = _p99(rest, _search(dice, size))
                    values.setdefault(f"get {size}", []).append(got)
                    values.setdefault(f"list {size}", []).append(listed)
    small, middle, large = SIZES
    return {
        "registry_get_p99_ms": values[f"get {large}"],
        "registry_list_p99_ms": values[f"list {large}"],
        "registry_get_p99_ms_100k": values[f"get {middle}"],
        "registry_list_p99_ms_100k": values[f"list {middle}"],
        "registry_get_p99_ms_10k": values[f"get {small}"],
        "registry_list_p99_ms_10k": values[f"list {small}"],
        "registry_get_1m_to_10k": _ratios(values[f"get {large}"], values[f"get {small}"]),
        "registry_list_1m_to_10k": _ratios(values[f"list {large}"], values[f"list {small}"]),
    }


def imports(runs: int) -> dict[str, list[float]]:
    """Devices/s from the first byte sent to the report's end: behind gateways without keys, and with keys, whose
    figure holds the broker's restart (announced 0 s ahead).
    """
    with Rig() as rig, rig.service("ingest"), rig.service("api"), _client(rig) as rest:
        plain = [_imported(rest, f"p{run}", PLAIN, keys=False) for run in range(runs)]
        seen = rest.get("/v1/policies/broker").headers.get("ETag", "")
        answer = rest.put("/v1/policies/broker", json={"announce_s": 0}, headers={"If-Match": seen})
        if not answer.is_success:
            raise Permanent(f"the policy `broker`: {answer.text}")
        keyed = [_imported(rest, f"k{run}", WITH_KEYS, keys=True) for run in range(runs)]
    return {"registry_import_devices_per_s": plain, "registry_import_keys_per_s": keyed}


def _imported(rest: httpx.Client, prefix: str, count: int, *, keys: bool) -> float:
    gateways = count // GATEWAY_EVERY

    def lines() -> Iterator[bytes]:
        block = []
        for number in range(count):
            device: dict[str, Any] = {"serial": f"{prefix}-{number:07}", "type": f"type{number % 7}"}
            if number < gateways:
                device |= {"id": f"{prefix}gw{number}", "kind": "gateway", "type": "gateway"}
            else:
                device |= {"gateway_id": f"{prefix}gw{number % gateways}", "labels": {"site": f"s{number % 1000}"}}
            block.append(json.dumps(device))
            if len(block) == 1_000 or number == count - 1:
                yield ("\n".join(block) + "\n").encode()
                block.clear()

    content = list(lines())  # made before: what is measured is the hub
    started = time.monotonic()
    last: dict[str, Any] = {}
    headers = {"Content-Type": "application/x-ndjson"}
    params = {"keys": str(keys).lower()}
    with rest.stream("POST", "/v1/devices:import", content=iter(content), headers=headers, params=params) as answer:
        for line in answer.iter_lines():
            last = json.loads(line)
    elapsed_s = time.monotonic() - started
    if last.get("done", {}).get("created") != count:
        raise Permanent(f"an import of {count} devices ended with {last}")
    return count / elapsed_s


def _client(rig: Rig) -> httpx.Client:
    token = Path(rig.env["HUB_ADMIN_TOKEN_FILE"]).read_text(encoding="utf-8").strip()
    return httpx.Client(base_url=rig.env["HUB_API_URL"], headers={"Authorization": f"Bearer {token}"}, timeout=300)


def _p99(rest: httpx.Client, path: Callable[[], str]) -> float:
    """In milliseconds, over REQUESTS requests of which the first WARM do not count."""
    took = []
    for number in range(WARM + REQUESTS):
        asked = path()
        started = time.perf_counter()
        answer = rest.get(asked)
        if number >= WARM:
            took.append((time.perf_counter() - started) * 1_000)
        if not answer.is_success:
            raise Transient(f"{asked}: {answer.status_code} {answer.text}")
    found = percentile(took, 0.99)
    assert found is not None
    return found


def _one(dice: random.Random, size: int) -> Callable[[], str]:
    return lambda: f"/v1/devices/{_id(dice.randrange(size))}"


def _search(dice: random.Random, size: int) -> Callable[[], str]:
    return lambda: _query(dice, size)


def _query(dice: random.Random, size: int) -> str:
    """One of every kind of filter, alone and together, from anywhere in the list."""
    number = dice.randrange(size)
    site, floor, kind = f"label=site%3Ds{number % 1000}", f"label=floor%3D{number % 3}", f"type=type{number % 7}"
    cases: Mapping[str, str] = {
        "all": "",
        "type": kind,
        "status": dice.choice(["status=suspended", "status=active"]),
        "gateways": "kind=gateway",
        "behind": f"gateway_id={_id(number - number % GATEWAY_EVERY)}",
        "label": site,
        "labels": f"{site}&{floor}",
        "presence": "label=floor",
        "group": "group=canaries",
        "together": f"{site}&{kind}&status=active",
        "hardly": f"{kind}&status=suspended",
        "nobody": f"{kind}&status=provisioned&label=floor",
        "serial": f"q=x-{number:07}",
        "part": f"q={number:07}"[:-2],
        "two": f"q={dice.choice(_ALPHABET[:10])}{dice.choice(_ALPHABET[:10])}",
        "part and type": f"q=x-{number // 10:06}&{kind}",
    }
    query = cases[dice.choice(sorted(cases))]
    cursor = f"&cursor={_cursor(dice)}" if dice.random() < 0.5 else ""
    return f"/v1/devices?limit=100&{query}{cursor}"


def _cursor(dice: random.Random) -> str:
    """Between any two ids: behind it a page begins somewhere in the middle."""
    return str(next_cursor("d" + "".join(dice.choice(_ALPHABET) for _ in range(8)), more=True))


def _id(number: int) -> str:
    return "d" + hashlib.md5(str(number).encode()).hexdigest()[:20]


async def _fill(rig: Rig, size: int) -> None:
    """As many devices as `size`: one of GATEWAY_EVERY a gateway, the others behind it."""
    db = await asyncpg.connect(rig.env["HUB_DATABASE_URL"], command_timeout=_FILL_S)
    try:
        first = await db.fetchval("SELECT count(*) FROM devices")
        types = "SELECT 'type' || n FROM generate_series(0, 6) AS n UNION SELECT 'gateway'"
        await db.execute(f"INSERT INTO device_types (name) {types} ON CONFLICT DO NOTHING")
        await db.execute(_DEVICES, first, size - 1, GATEWAY_EVERY)
        await db.execute(_OWNERS, first, size - 1, GATEWAY_EVERY)
        await db.execute("INSERT INTO device_groups (name) VALUES ('canaries') ON CONFLICT DO NOTHING")
        await db.execute(_MEMBERS, first, size - 1)
        await db.execute("VACUUM ANALYZE")
    finally:
        await db.close()


_NAME = "'d' || left(md5({}::text), 20)"
_DEVICES = f"""
INSERT INTO devices (id, serial, type, kind, status, labels, pseudonym, registered_at)
SELECT {_NAME.format("n")}, 'X-' || lpad(n::text, 7, '0'),
    CASE WHEN n % $3 = 0 THEN 'gateway' ELSE 'type' || n % 7 END,
    CASE WHEN n % $3 = 0 THEN 'gateway' ELSE 'device' END,
    CASE WHEN n % 1000 = 1 THEN 'suspended' ELSE 'active' END,
    jsonb_build_object('site', 's' || n % 1000, 'floor', (n % 3)::text), md5(n::text), now()
FROM generate_series($1::bigint, $2::bigint) AS n
"""
_OWNERS = f"""
INSERT INTO gateway_ownership (device_id, gateway_id, from_at)
SELECT {_NAME.format("n")}, {_NAME.format("(n - n % $3)")}, now()
FROM generate_series($1::bigint, $2::bigint) AS n WHERE n % $3 <> 0
"""
_MEMBERS = f"""
INSERT INTO device_group_members (group_name, device_id)
SELECT 'canaries', {_NAME.format("n")} FROM generate_series($1::bigint, $2::bigint) AS n WHERE n % 50 = 7
"""


def _ratios(large: Sequence[float], small: Sequence[float]) -> list[float]:
    return [big / little for big, little in zip(large, small, strict=True)]
