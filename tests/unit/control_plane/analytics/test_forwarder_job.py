"""The forwarder as a job: nothing that leaves names a device."""

import logging
from collections.abc import Iterator

import jsonschema
import msgspec
import pytest
from prometheus_client import REGISTRY

from control_plane.analytics.forwarder_job import ForwarderJob
from control_plane.analytics.job import Incoming, MemoryState, Output
from control_plane.analytics.records import EventType, NormalizedReading, Quality, decode, encode
from control_plane.analytics.rules import Op, Rule, Rules
from shared.batch import ClockQuality, Lane
from shared.pseudonym import pseudonym
from shared.topics import Kafka
from shared.tracing import Attributes, NoTracing
from tests.stack.hub_process import CHECKOUT

KEY = bytes(32)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
RULES: Rules = {
    "gate": (
        Rule(
            id="r1", device_type="gate", metric="closed", op=Op.EQUAL, threshold=True, sku="PALLET",
            location="dock-4", unit="pcs", quantity=-1.0,
        ),
    )
}  # fmt: skip


def incoming(second: int, value: object, kind: str = EventType.READING) -> Incoming:
    reading = NormalizedReading(
        device_id="dev-1", device_type="gate", gateway_id="gw-1", ts=f"2026-01-01T00:00:{second:02}.000Z",
        ts_raw=second, received_at="2026-01-01T00:01:00.000Z", metrics={"closed": value}, lane=Lane.LIVE,  # type: ignore[dict-item]
        quality=Quality(ClockQuality.SYNCED, None, ()),
    )  # fmt: skip
    headers = [("ce_type", kind.encode()), ("ce_id", b"gw-1:x"), ("traceparent", TRACE.encode())]
    return Incoming(Kafka.NORMALIZED.value, 0, second, b"dev-1", encode(reading), headers, 0)


def forwarded(rules: Rules = RULES) -> list[Output]:
    job, state = ForwarderJob(lambda: rules, KEY, NoTracing()), MemoryState()
    return [
        found for second, value in enumerate([False, True]) for found in job.on_record(incoming(second, value), state)
    ]


def test_what_leaves_bears_the_pseudonym_and_no_other_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "events"):
        found = forwarded()
    name = pseudonym(KEY, "dev-1")
    assert len(found) == 1
    headers = {key: value.decode() for key, value in found[0].headers}
    assert (found[0].topic, found[0].key) == (Kafka.STOCK, name.encode())
    assert headers["ce_subject"] == name
    assert headers["ce_id"].startswith(f"{name}:r1:")
    assert headers["ce_type"] == "ecommerce.inventory.stock.adjusted.v1"
    assert headers["traceparent"] == TRACE
    assert b"dev-1" not in b"".join([found[0].key, found[0].value, *(value for _, value in found[0].headers)])
    assert "gw-1" not in repr(found[0])
    assert "dev-1" not in repr([record.__dict__ for record in caplog.records])


def test_it_is_valid_under_its_schema() -> None:
    schema = msgspec.json.decode((CHECKOUT / "shared/schemas" / f"{EventType.STOCK}.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    value = msgspec.json.decode(forwarded()[0].value)
    jsonschema.validate(value, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value | {"source_pseudonym": "dev-1"}, schema)


def test_it_is_counted() -> None:
    labels = {"sku": "PALLET", "location": "dock-4"}
    before = REGISTRY.get_sample_value("stock_adjustments_total", labels) or 0.0
    forwarded()
    assert REGISTRY.get_sample_value("stock_adjustments_total", labels) == before + 1


def test_without_rules_nothing_leaves() -> None:
    assert forwarded({}) == []


def test_what_is_no_reading_is_passed_by() -> None:
    job = ForwarderJob(lambda: RULES, KEY, NoTracing())
    bad = [incoming(1, True, EventType.AGGREGATE), incoming(1, True)._replace(value=b"{}")]
    assert [list(job.on_record(record, MemoryState())) for record in bad] == [[], []]


def test_a_traced_reading_has_its_stage_and_the_change_goes_on_from_it() -> None:
    stages = []

    class Recorder(NoTracing):
        enabled = True

        def stage(
            self, name: str, parent: str | None, start_ns: int, end_ns: int, attributes: Attributes
        ) -> str | None:
            stages.append((name, parent, 0 < start_ns <= end_ns, dict(attributes)))
            return TRACE.replace("b7ad", "aaaa")

    job, state = ForwarderJob(lambda: RULES, KEY, Recorder()), MemoryState()
    found = [list(job.on_record(incoming(second, value), state)) for second, value in enumerate([False, True])]
    assert stages == [("forward", TRACE, True, {"adjustments": len(sent)}) for sent in found]
    assert dict(found[1][0].headers)["traceparent"] == TRACE.replace("b7ad", "aaaa").encode()


def test_a_bug_does_not_stop_the_flow() -> None:
    def broken() -> Rules:
        raise KeyError("ours")

    assert list(ForwarderJob(broken, KEY, NoTracing()).on_record(incoming(1, True), MemoryState())) == []


def test_a_bug_in_the_second_rule_leaves_the_first_ones_state_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    """Else the change of the first would be remembered as sent, and never be."""
    rules: dict[str, tuple[Rule, ...]] = dict(RULES)
    job, state = ForwarderJob(lambda: rules, KEY, NoTracing()), MemoryState()
    assert list(job.on_record(incoming(1, False), state)) == []
    state.keep()
    before = dict(state.values)

    class Broken(tuple[Rule, ...]):
        __slots__ = ()

        def __iter__(self) -> Iterator[Rule]:
            yield RULES["gate"][0]
            raise KeyError("dev-1")

    rules["gate"] = Broken()
    assert list(job.on_record(incoming(2, True), state)) == []
    assert state.values == before
    assert "dev-1" not in str([record.__dict__ for record in caplog.records])
    rules["gate"] = RULES["gate"]
    (sent,) = job.on_record(incoming(2, True), state)
    assert decode(EventType.STOCK, sent.value).delta == -1.0  # type: ignore[union-attr]  # it is one
