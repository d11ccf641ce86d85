"""Enrolment on real servers: every way in, every refusal, and a crash after each step.

A crash is an exception that no code of ours handles, raised where the process would have ended.
"""

import asyncio
import json
from datetime import timedelta

import pytest

from control_plane.registry import moves
from control_plane.registry.enrolment.enroller import Enrolled
from control_plane.registry.enrolment.rules import Refusal, Refused
from control_plane.registry.life import Move
from control_plane.registry.registration import Request
from shared.device import Kind, decode_view
from shared.errors import Transient
from shared.ids import DeviceId
from tests.stack.registry.conftest import NOT_AUTHORIZED, connect_code
from tests.stack.registry.enrolment.conftest import OPERATOR, Desk, request
from tests.stack.registry.test_registrar import Crash, assert_converged, crash_after, crash_before


async def connects(desk: Desk, found: Enrolled) -> bool:
    code = await connect_code(desk.parts.port, found.gateway_id, found.api_key)
    assert code in (0, NOT_AUTHORIZED)
    return code == 0


async def owners(desk: Desk, device_id: str) -> list[tuple[str, bool]]:
    rows = await desk.parts.database.fetch(
        "SELECT gateway_id, until_at FROM gateway_ownership WHERE device_id = $1 ORDER BY from_at", device_id
    )
    return [(row["gateway_id"], row["until_at"] is None) for row in rows]


async def device_behind(desk: Desk, gateway_id: str, name: str) -> None:
    behind = Request(f"SN-{name}", "thermometer", Kind.DEVICE, DeviceId(name), DeviceId(gateway_id))
    await desk.parts.registrar.register(behind, OPERATOR, None)


async def test_new_hardware_is_enrolled_and_can_connect(desk: Desk) -> None:
    token = await desk.token(site="berlin")
    found = await desk.enrol(request(token, name=DeviceId("hall-3")))
    assert found.gateway_id == "hall-3"
    assert await connects(desk, found)
    device = await desk.parts.store.device(found.gateway_id)
    assert device is not None
    assert (device.kind, device.serial, device.labels) == (Kind.GATEWAY, "SN-box", {"site": "berlin"})
    rows = await desk.parts.database.fetch("SELECT ce_id FROM registry_outbox WHERE key = 'hall-3' ORDER BY seq")
    assert [row["ce_id"] for row in rows] == ["hall-3:1", "hall-3:1:enrolled"]
    audit = await desk.parts.database.fetch("SELECT actor, source, action FROM audit_log ORDER BY id")
    assert [tuple(row) for row in audit] == [
        ("t-operator", "10.0.0.1", "enrolment-token.create"),
        (token.id, "10.0.0.2", "gateway.enrol"),
    ]
    stored = await desk.parts.database.fetchval("SELECT string_agg(detail::text, '') FROM audit_log")
    assert token.secret not in stored


async def test_other_hardware_cannot_replay_a_token(desk: Desk) -> None:
    token = await desk.token()
    await desk.enrol(request(token))
    assert await desk.refused(request(token, "thief")) is Refusal.TOKEN
    assert await desk.refused(request(token)) is Refusal.TOKEN, "the same hardware with another key pair"
    assert await desk.parts.database.fetchval("SELECT count(*) FROM devices") == 1


async def test_a_token_for_three_is_for_three(desk: Desk) -> None:
    token = await desk.token(uses=3)
    found = [await desk.enrol(request(token, name)) for name in ("a", "b", "c")]
    assert len({one.gateway_id for one in found}) == 3
    assert await desk.refused(request(token, "d")) is Refusal.TOKEN
    assert await desk.used(token) == 3


async def test_a_token_for_one_and_many_at_once(desk: Desk) -> None:
    token = await desk.token()
    results = await asyncio.gather(
        *(desk.enroller.enrol(request(token, f"box-{n}"), None) for n in range(6)), return_exceptions=True
    )
    assert sum(isinstance(one, Enrolled) for one in results) == 1, results
    assert all(isinstance(one, Enrolled | Refused) for one in results), results
    await assert_converged(desk.parts)
    assert await desk.parts.database.fetchval("SELECT count(*) FROM devices") == 1


@pytest.mark.parametrize("how", ["expired", "revoked", "unknown"])
async def test_a_token_that_is_no_longer_good(desk: Desk, how: str) -> None:
    token = await desk.token()
    sent = request(token)
    if how == "expired":
        await desk.parts.database.execute("UPDATE enrolment_tokens SET expires_at = now()")
    elif how == "revoked":
        assert await desk.store.revoke_token(token.id, OPERATOR)
    else:
        sent = request(token, token_id="e-aaaaaaaaaaaa")
    assert await desk.refused(sent) is Refusal.TOKEN


async def test_a_lost_answer_is_answered_again_with_a_fresh_key(desk: Desk) -> None:
    token = await desk.token()
    sent = request(token)
    first = await desk.enrol(sent)
    second = await desk.enrol(sent)
    assert second.gateway_id == first.gateway_id
    assert second.api_key != first.api_key
    assert await desk.used(token) == 1
    assert await connects(desk, second)
    assert not await connects(desk, first), "the unseen key ended"
    await assert_converged(desk.parts)


async def test_the_same_hardware_keeps_its_id_and_its_old_key_ends_after_the_overlap(desk: Desk) -> None:
    first = await desk.enrol(request(await desk.token()))
    await desk.parts.database.execute("UPDATE device_credentials SET last_used_at = now()")
    second = await desk.enrol(request(await desk.token(site="x")))
    assert second.gateway_id == first.gateway_id
    assert await connects(desk, first), "the overlap"
    assert await connects(desk, second)
    ends = await desk.parts.database.fetch("SELECT key_id, not_after - now() AS left FROM device_credentials")
    left = {row["key_id"]: row["left"] for row in ends}
    assert left[second.api_key.partition(".")[0]] is None
    assert timedelta(minutes=59) < left[first.api_key.partition(".")[0]] <= timedelta(hours=1)


async def test_new_hardware_takes_over_and_the_old_one_drains(desk: Desk) -> None:
    old = await desk.enrol(request(await desk.token(), "old", name=DeviceId("old")))
    await device_behind(desk, "old", "dev-1")
    await device_behind(desk, "old", "dev-2")
    token = await desk.token(replaces="old")
    sent = request(token, "new", name=DeviceId("new"))
    found = await desk.enrol(sent)
    assert (found.gateway_id, found.taken_over, found.devices) == ("new", 2, ("dev-1", "dev-2"))
    assert await owners(desk, "dev-1") == [("old", False), ("new", True)]
    assert await connects(desk, old), "it may send what it has"
    row = await desk.parts.database.fetchrow(
        "SELECT replaced_by, drains_until - now() AS left FROM devices WHERE id = 'old'"
    )
    assert row is not None
    assert row["replaced_by"] == "new"
    assert timedelta(days=29) < row["left"] <= timedelta(days=30)
    text = await desk.parts.database.fetchval("SELECT view FROM device_view WHERE id = 'dev-1'")
    view = decode_view(text.encode())
    taken_ms = view.gateways[0].until_ms
    assert taken_ms is not None
    assert view.owned_by("old", taken_ms - 1)
    assert not view.owned_by("old", taken_ms), "not what it accepted afterwards"
    assert view.owned_by("new", taken_ms)
    view = decode_view((await desk.parts.database.fetchval("SELECT view FROM device_view WHERE id = 'old'")).encode())
    assert view.replaced_ms is not None
    assert abs(view.replaced_ms - taken_ms) <= 1
    again = await desk.enrol(sent)
    assert (again.gateway_id, again.devices) == ("new", ("dev-1", "dev-2")), "a lost answer, answered again"
    refusals = [await desk.refused(request(await desk.token(), "old")), await desk.refused(request(token, "third"))]
    assert refusals == [Refusal.REPLACED, Refusal.TOKEN]


async def test_the_drain_ends(desk: Desk) -> None:
    old = await desk.enrol(request(await desk.token(), "old", name=DeviceId("old")))
    await desk.enrol(request(await desk.token(replaces="old"), "new"))
    await desk.drains.run()
    assert await connects(desk, old), "not yet"
    await desk.parts.database.execute("UPDATE devices SET drains_until = now() WHERE id = 'old'")
    await desk.drains.run()
    assert not await connects(desk, old)
    assert await desk.parts.database.fetchval("SELECT status FROM devices WHERE id = 'old'") == "retired"
    actor = await desk.parts.database.fetchval("SELECT actor FROM audit_log WHERE action = 'device.retire'")
    assert actor == "policy:drain"
    again = await desk.enrol(request(await desk.token(), "old"))
    assert again.gateway_id != "old", "retired hardware comes back as somebody else"


async def test_a_stolen_gateway_does_not_drain_and_is_taken_over(desk: Desk) -> None:
    old = await desk.enrol(request(await desk.token(), "old", name=DeviceId("old")))
    await device_behind(desk, "old", "dev")
    async with desk.parts.database.acquire() as db, db.transaction():
        await moves.move(db, OPERATOR, DeviceId("old"), Move.REVOKE)
    await desk.drains._projector.device(DeviceId("old"))
    assert not await connects(desk, old)
    assert await desk.refused(request(await desk.token(), "old")) is Refusal.STOLEN
    found = await desk.enrol(request(await desk.token(replaces="old"), "new", name=DeviceId("new")))
    assert found.devices == ("dev",)
    row = await desk.parts.database.fetchrow("SELECT replaced_by, drains_until FROM devices WHERE id = 'old'")
    assert row is not None
    assert tuple(row) == ("new", None)
    assert not await connects(desk, old)
    assert await desk.refused(request(await desk.token(), "old")) is Refusal.STOLEN


async def test_a_gateway_registered_by_hand_is_adopted_by_a_token_that_names_it(desk: Desk) -> None:
    await desk.parts.registrar.register(Request("SN-box", "gateway", Kind.GATEWAY, DeviceId("hand")), OPERATOR, None)
    assert await desk.refused(request(await desk.token())) is Refusal.SERIAL_TAKEN
    assert (await desk.enrol(request(await desk.token(replaces="hand")))).gateway_id == "hand"
    assert (await desk.enrol(request(await desk.token()))).gateway_id == "hand", "now its hardware is known"


async def test_a_quarantined_gateway_gets_no_key(desk: Desk) -> None:
    found = await desk.enrol(request(await desk.token()))
    async with desk.parts.database.acquire() as db, db.transaction():
        await moves.move(db, OPERATOR, found.gateway_id, Move.QUARANTINE)
    assert await desk.refused(request(await desk.token())) is Refusal.CLOSED


CRASHES = {
    "before it is saved": lambda desk, patch: crash_before(desk.store, "reserve", patch),
    "after it was saved": lambda desk, patch: crash_after(desk.store, "reserve", patch),
    "before the broker is told": lambda desk, patch: crash_before(desk.parts.broker, "command", patch),
    "after the broker took the key": lambda desk, patch: crash_after(desk.parts.broker, "command", patch),
    "before it is finished": lambda desk, patch: crash_before(desk.store, "finish", patch),
    "after it was finished": lambda desk, patch: crash_after(desk.store, "finish", patch),
    "before the answer": lambda desk, patch: crash_before(desk.store, "owned", patch),
}


@pytest.mark.parametrize("where", CRASHES)
@pytest.mark.parametrize("how", ["new", "takeover", "again"])
async def test_after_a_crash_asking_again_ends_enrolled(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, where: str, how: str
) -> None:
    if how != "new":
        await desk.enrol(request(await desk.token(), "old", name=DeviceId("old")))
        await device_behind(desk, "old", "dev")
    token = await desk.token(replaces="old" if how == "takeover" else None)
    sent = request(token, "old" if how == "again" else "new")
    with monkeypatch.context() as patch:
        CRASHES[where](desk, patch)
        with pytest.raises(Crash):
            await desk.enroller.enrol(sent, None)
    if how == "takeover" and "finished" not in where and "answer" not in where:
        assert await owners(desk, "dev") == [("old", True)], "nothing has changed hands"
    found = await desk.enrol(sent)
    assert await connects(desk, found)
    assert await desk.used(token) == 1
    await assert_converged(desk.parts)
    assert await connects(desk, found)
    if how == "takeover":
        assert await owners(desk, "dev") == [("old", False), (found.gateway_id, True)]
    if how == "again":
        assert found.gateway_id == "old"


async def test_a_broker_that_is_away_costs_no_use(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await desk.token()

    async def away(*_: object, **__: object) -> None:
        raise Transient("the broker did not answer")

    with monkeypatch.context() as patch:
        patch.setattr(desk.parts.broker, "command", away)
        with pytest.raises(Transient):
            await desk.enroller.enrol(request(token), None)
    assert await desk.used(token) == 0
    assert await desk.parts.database.fetchval("SELECT count(*) FROM devices") == 0
    await desk.enrol(request(token))


async def test_a_token_revoked_while_the_broker_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await desk.token()
    real = desk.parts.broker.command

    async def told(*args: object, **more: object) -> object:
        await desk.store.revoke_token(token.id, OPERATOR)
        return await real(*args, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(desk.parts.broker, "command", told)
        assert await desk.refused(request(token)) is Refusal.TOKEN
    await assert_converged(desk.parts)
    assert await desk.parts.database.fetchval("SELECT count(*) FROM devices") == 0


async def test_an_unseen_token_is_made_again_under_its_name(desk: Desk) -> None:
    first = await desk.token()
    more = {"type_name": "gateway", "labels": {}, "uses": 1, "lasts": timedelta(hours=1), "replaces": None}
    row, fresh = await desk.store.make_token(first.id, b"n" * 32, actor=OPERATOR, **more)
    assert fresh
    assert row.token.hash == b"n" * 32
    await desk.enrol(request(first, token_hash=b"n" * 32))
    _, fresh = await desk.store.make_token(first.id, b"m" * 32, actor=OPERATOR, **more)
    assert not fresh
    stored = await desk.parts.database.fetchval("SELECT to_jsonb(t)::text FROM enrolment_tokens AS t")
    assert json.loads(stored)["used"] == 1
