"""A whole hub that every row of the misuse matrix meets, and what a stranger can do to it."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from deploy.site.installation import Installation, installed
from shared.ids import new_device_id


@dataclass
class Person:
    """One of the site: its id, and its key as the registry showed it."""

    id: str
    key: str
    secret: str
    hash: str = ""
    old: "Person | None" = None

    @property
    def short(self) -> str:
        return self.secret[:-1]


@dataclass
class World:
    """The site, who lives there, and an operator's REST client."""

    site: Installation
    people: dict[str, Person]
    rest: httpx.Client
    env: dict[str, str]
    marks: dict[str, bool] = field(default_factory=dict)  # what was published, and whether it may be in Kafka

    def fill(self, text: str | None) -> str | None:
        """The text with its names replaced."""
        if text is None:
            return None
        for name, person in self.people.items():
            for word, value in _words(person):
                text = text.replace(f"{{{name}{word}}}", value)
            if person.old is not None:
                for word, value in _words(person.old):
                    text = text.replace(f"{{{name}.old{word}}}", value)
        assert "{" not in text, text
        return text


def _words(person: Person) -> list[tuple[str, str]]:
    return [
        ("", person.id),
        (".capitals", person.id.upper()),
        (".key.capitals", person.key.upper()),
        (".key", person.key),
        (".secret", person.secret),
        (".short", person.short),
        (".hash", person.hash),
    ]


@pytest.fixture(scope="module")  # a hub that lived on would slow down every later test
def world() -> Iterator[World]:
    """Direct devices a, b and r (whose first key was rotated out), gateway g with d behind it, gateway h with e."""
    ready, stop = threading.Event(), threading.Event()
    found: list[World] = []
    failed: list[BaseException] = []

    async def run() -> None:
        ids = {name: str(new_device_id()) for name in "abdeghr"}
        behind = {ids["g"]: [], ids["h"]: [ids["e"]]}
        async with installed(behind, [ids["a"], ids["b"]], "thermometer", lambda _: None) as site:
            for gateway in site.gateways.values():
                await asyncio.to_thread(gateway.start)
            found.append(await asyncio.to_thread(_people, site, ids))
            ready.set()
            await asyncio.to_thread(stop.wait)
            found[0].rest.close()

    def main() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=main)
    thread.start()
    ready.wait()
    if failed:
        raise failed[0]
    try:
        yield found[0]
    finally:
        stop.set()
        thread.join()
        if failed:
            raise failed[0]


def _people(site: Installation, ids: dict[str, str]) -> World:
    env = site.stack.env()
    token = Path(env["HUB_ADMIN_TOKEN_FILE"]).read_text().strip()
    rest = httpx.Client(base_url=env["HUB_API_URL"], headers={"Authorization": f"Bearer {token}"}, timeout=30)
    people = {name: _person(ids[name], str(site.keys[ids[name]])) for name in ("a", "b")}
    for name in ("g", "h"):
        people[name] = _person(ids[name], (site.gateways[ids[name]].data_dir / "key").read_text().strip())
    people["d"] = _registered(rest, ids["d"], ids["g"])
    people["r"] = _rotated(rest, _registered(rest, ids["r"], None))
    return World(site, people, rest, env)


def _person(device_id: str, api_key: str) -> Person:
    key, _, secret = api_key.partition(".")
    return Person(device_id, key, secret)


def _registered(rest: httpx.Client, device_id: str, gateway_id: str | None) -> Person:
    body = {"id": device_id, "serial": f"SN-{device_id}", "type": "thermometer", "gateway_id": gateway_id}
    answer = rest.post("/v1/devices", json=body)
    assert answer.status_code == 201, answer.text
    return _person(device_id, answer.json()["api_key"])


def _rotated(rest: httpx.Client, person: Person) -> Person:
    """The same with a new key; the old one has ended."""
    answer = rest.post(f"/v1/devices/{person.id}/credentials:rotate", json={"overlap_s": 0})
    assert answer.status_code in (200, 201), answer.text
    renewed = _person(person.id, answer.json()["api_key"])
    renewed.old = person
    return renewed


def names_in_logs(world: World) -> list[str]:
    """The lines of our processes' logs with an id, key, secret or serial. The broker's own log is not ours."""
    words = {word for person in world.people.values() for word in (person.id, person.key, person.secret)}
    words |= {person.old.secret for person in world.people.values() if person.old is not None}
    words |= {f"SN-{person.id}" for person in world.people.values()}
    words.add(world.rest.headers["Authorization"].removeprefix("Bearer ").partition(".")[2])
    files = [world.site.hub.log_path, *(gateway.log_path for gateway in world.site.gateways.values())]
    assert all(path.stat().st_size for path in files)
    return [
        f"{path.name}: {line}"
        for path in files
        for line in path.read_text(errors="replace").splitlines()
        if any(word in line for word in words)
    ]
