"""Device types' limits from the real Postgres."""

import time
from collections.abc import Callable, Iterator

import asyncpg
import pytest

from control_plane.analytics import limits_view
from control_plane.analytics.detector import Limit
from control_plane.analytics.limits_view import LimitsView
from control_plane.db import connect, migrate
from shared.errors import Permanent
from tests.stack.hub_process import until

HOT = '{"temperature": {"unit": "°C", "max": 60}}'


@pytest.fixture
async def migrated_url(database_url: str) -> str:
    connection = await connect.connect(database_url)
    await migrate.apply(connection)
    await connection.close()
    return database_url


@pytest.fixture
def opened() -> Iterator[Callable[[str], LimitsView]]:
    views: list[LimitsView] = []

    def open_view(url: str) -> LimitsView:
        view = LimitsView(url)
        views.append(view)
        view.start()
        return view

    yield open_view
    for view in views:
        view.close()


async def put(url: str, name: str, metrics: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO device_types (name, metrics) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET metrics = $2",
        name,
        metrics,
    )
    await connection.close()


async def test_it_knows_what_is_there_after_the_wait(migrated_url: str, opened: Callable[[str], LimitsView]) -> None:
    await put(migrated_url, "oven", HOT)
    await put(migrated_url, "scale", "{}")
    view = opened(migrated_url)
    view.wait()
    assert view.missing() == []
    assert view.limits_of("oven") == {"temperature": Limit(None, 60.0)}
    assert view.limits_of("scale") == view.limits_of("unheard-of") == {}


async def test_a_change_is_seen(
    migrated_url: str, opened: Callable[[str], LimitsView], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_view, "REFRESH_S", 0.05)
    view = opened(migrated_url)
    view.wait()
    await put(migrated_url, "oven", HOT)
    await until(lambda: bool(view.limits_of("oven")), "the new limit is known")
    await put(migrated_url, "oven", "{}")
    await until(lambda: not view.limits_of("oven"), "and its end")


def test_a_server_away_is_waited_for(opened: Callable[[str], LimitsView]) -> None:
    view = opened("postgresql://nobody@127.0.0.1:1/none")
    assert view.missing() == ["does not know the device types' limits yet"]
    view.check()


async def test_a_database_that_was_not_set_up_is_a_failure(
    database_url: str, opened: Callable[[str], LimitsView]
) -> None:
    view = opened(database_url)
    with pytest.raises(Permanent, match="hub migrate"):
        view.wait()
    assert "ended" in view.missing()[0]


async def test_closing_ends_it_soon(migrated_url: str, opened: Callable[[str], LimitsView]) -> None:
    view = opened(migrated_url)
    view.wait()
    began = time.monotonic()
    view.close()
    assert time.monotonic() - began < 2
