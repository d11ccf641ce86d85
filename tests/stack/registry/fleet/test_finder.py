"""Every combination of filters, page by page on a real Postgres, gives what a plain filter in Python gives."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest

from control_plane.db.connect import Pool
from control_plane.registry.fleet import finder, search
from control_plane.registry.fleet.finder import Finder
from control_plane.registry.fleet.search import Filter, Label
from shared.device import Kind, Status
from tests.stack.registry.fleet.fleet_kit import put, registry

FLEET, COMBINATIONS = 70, 450
GATEWAYS = ("gw-1", "gw-2")
KINDS = (None, Kind.DEVICE, Kind.GATEWAY)
STATUSES = (None, Status.ACTIVE, Status.RETIRED)
TYPES = (None, "thermometer", "valve", "unheard-of")
LABELS: tuple[tuple[Label, ...], ...] = (
    (),
    (Label("site", "berlin"),),
    (Label("mains"),),
    (Label("site", "berlin"), Label("mains")),
    (Label("site", "nowhere"),),
)
TEXTS = (None, "sn", "A-1", "1%", "_", "00")
GROUPS = (None, "canaries")


def fleet(dice: random.Random) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"id": name, "kind": "gateway", "serial": f"GW-{name}", "type": "gateway"} for name in GATEWAYS
    ]
    for number in range(FLEET):
        labels = {"site": dice.choice(["berlin", "paris"])} if dice.random() < 0.7 else {}
        if dice.random() < 0.3:
            labels["mains"] = dice.choice(["", "yes"])
        found.append(
            {
                "id": f"{dice.choice('abZ-9')}{number:03}".replace("-", "x-"),
                "kind": "device",
                "serial": dice.choice(["SN-{}", "sn_{}", "A-{}%", "\\{}"]).format(f"{number:03}"),
                "type": dice.choice(["thermometer", "valve"]),
                "status": dice.choice(["active", "active", "retired", "pending"]),
                "gateway_id": dice.choice([None, *GATEWAYS]),
                "labels": labels,
                "member": dice.random() < 0.2,
            }
        )
    return found


def fits(device: dict[str, Any], wanted: Filter) -> bool:
    """What a filter means, said as simply as can be."""
    labels = device.get("labels", {})
    return (
        (wanted.kind is None or device["kind"] == wanted.kind)
        and (wanted.status is None or device.get("status", "active") == wanted.status)
        and (wanted.type is None or device["type"] == wanted.type)
        and (wanted.gateway_id is None or device.get("gateway_id") == wanted.gateway_id)
        and (wanted.members_of is None or device.get("member", False))
        and all(label.name in labels and label.value in (None, labels[label.name]) for label in wanted.labels)
        and (wanted.text is None or wanted.text.lower() in device["serial"].lower())
    )


async def ids(lists: Finder, wanted: Filter, limit: int) -> tuple[list[str], int]:
    """All pages; how many they were."""
    found: list[str] = []
    after, pages = "", 0
    while True:
        page = await lists.page(wanted, after=after, limit=limit)
        assert len(page.devices) <= limit
        found += [device.id for device in page.devices]
        pages += 1
        if page.after is None:
            return found, pages
        assert page.after > after
        after = page.after


async def fill(database: Pool, devices: Sequence[dict[str, Any]]) -> None:
    await database.execute("INSERT INTO device_groups (name) VALUES ('canaries')")
    for device in devices:
        await put(database, device["id"], **{name: value for name, value in device.items() if name != "id"})
        if device.get("member"):
            await database.execute("INSERT INTO device_group_members VALUES ('canaries', $1)", device["id"])
    await database.execute(
        "INSERT INTO devices (id, serial, type, kind, status) VALUES ('u','SN-u','valve','device','active')"
    )


@pytest.mark.parametrize("few", [0, search.FEW_MATCHES], ids=["walked", "by trigrams"])
async def test_each_combination_of_filters_is_a_plain_filter(
    database_url: str, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    dice = random.Random(4)
    devices = fleet(dice)
    monkeypatch.setattr(search, "STRIDE", 5)  # so that pages end in the middle of streams
    monkeypatch.setattr(search, "FEW_MATCHES", few)
    every = list(itertools.product(KINDS, STATUSES, TYPES, (None, *GATEWAYS), GROUPS, LABELS, TEXTS))
    async with registry(database_url) as database:
        await fill(database, devices)
        lists = Finder(database)
        short = 0
        for combination in dice.sample(every, COMBINATIONS):
            wanted = Filter(*combination)
            expected = sorted(device["id"] for device in devices if fits(device, wanted))
            found, pages = await ids(lists, wanted, limit=4)
            assert found == expected, wanted
            short += pages > len(expected) // 4 + 1
        assert short or few, "no page was ever cut short: the bound is not tested"


async def test_a_part_of_a_serial_asks_the_planner_and_two_characters_do_not(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with registry(database_url) as database, database.acquire() as db:
        assert await finder._few(db, "SN-1")
        assert not await finder._few(db, "SN")
        monkeypatch.setattr(search, "FEW_MATCHES", 0)
        assert not await finder._few(db, "SN-1")
