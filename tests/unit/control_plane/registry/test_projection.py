"""What brings the broker's records to what Postgres holds."""

from collections.abc import Collection, Mapping
from itertools import pairwise

import pytest

from control_plane.registry import projection
from control_plane.registry.dynsec import BrokerRecord
from control_plane.registry.projection import MOST_UNKNOWN, Comparison, Key, KeyState, Repair, enabled
from shared.device import Status


def key(device: str, state: KeyState = KeyState.HELD, *, on: bool = True, revoked: bool = False) -> Key:
    return Key(device, state, on, revoked)


def at_broker(name: str, device: str | None, *, disabled: bool = False) -> BrokerRecord:
    return BrokerRecord(name, device, disabled)


def compare(
    keys: Mapping[str, Key],
    records: list[BrokerRecord],
    doors: Mapping[str, Key] | None = None,
    ended: Collection[str] = (),
) -> Repair:
    comparison = Comparison(doors)
    comparison.range(keys, records, set(ended) & set(comparison.unknown(keys, records)))
    return comparison.repair()


def work(repair: Repair) -> dict[str, object]:
    """What is to be done, without what was counted."""
    names = ("delete", "disable", "enable", "create", "urgent", "missing", "withheld", "more")
    return {name: getattr(repair, name) for name in names if getattr(repair, name)}


def test_equal_needs_nothing() -> None:
    keys = {"k:a": key("a"), "k:b": key("b", on=False)}
    records = [at_broker("_ingest", None), at_broker("k:a", "a"), at_broker("k:b", "b", disabled=True)]
    repair = compare(keys, records)
    assert work(repair) == {}
    assert (repair.desired, repair.actual, repair.commands) == (2, 2, 0)


def test_unknown_and_ended_keys_go() -> None:
    keys = {"k:ended": key("a", KeyState.ENDED)}
    records = [at_broker("k:ended", "a"), at_broker("k:unknown", "b")]
    assert work(compare(keys, records)) == {"delete": ("k:ended", "k:unknown")}


def test_those_that_ended_long_ago_are_not_unknown_however_many() -> None:
    many = [at_broker(f"k:{number:04}", f"d{number}") for number in range(MOST_UNKNOWN + 1)]
    assert len(compare({}, many, ended={record.username for record in many}).delete) == MOST_UNKNOWN + 1


def test_who_is_cut_off_goes_before_what_was_replaced() -> None:
    keys = {
        "k:rotated": key("a", KeyState.ENDED),
        "k:stolen": key("b", KeyState.ENDED, revoked=True),
        "k:quarantined": key("c", on=False),
    }
    repair = compare(keys, [at_broker(name, its.client_id) for name, its in keys.items()])
    assert repair.delete == ("k:rotated", "k:stolen")
    assert repair.urgent == {"k:stolen", "k:quarantined"}
    assert repair.commands == 3


def test_records_of_others_stay() -> None:
    assert work(compare({}, [at_broker("_monitor", None), at_broker("admin", None)])) == {}


def test_a_key_under_way_may_be_there_or_not() -> None:
    keys = {"k:a": key("a", KeyState.PENDING)}
    assert work(compare(keys, [])) == {}
    assert work(compare(keys, [at_broker("k:a", "a")])) == {}


def test_a_lost_key_is_missing_and_an_ended_one_is_not_missed() -> None:
    repair = compare({"k:a": key("a"), "k:b": key("b", KeyState.ENDED)}, [])
    assert work(repair) == {"missing": ("k:a",)}
    assert (repair.desired, repair.actual, repair.missing_count) == (1, 0, 1)


def test_a_record_bound_to_another_client_is_deleted_at_once_and_missing() -> None:
    for bound in ("b", None):
        repair = compare({"k:a": key("a")}, [at_broker("k:a", bound)])
        assert work(repair) == {"delete": ("k:a",), "urgent": {"k:a"}, "missing": ("k:a",)}


def test_status_and_time_decide_who_may_connect() -> None:
    keys = {"k:a": key("a", on=False), "k:b": key("b")}
    records = [at_broker("k:a", "a"), at_broker("k:b", "b", disabled=True)]
    assert work(compare(keys, records)) == {"disable": ("k:a",), "enable": ("k:b",), "urgent": {"k:a"}}
    assert {status for status in Status if enabled(status)} == {Status.PROVISIONED, Status.ACTIVE}
    assert not any(enabled(status, valid=False) for status in Status)


def test_a_certificates_gateway_has_a_record_by_which_it_can_be_closed() -> None:
    doors = {"gw-1": key("gw-1", KeyState.DOOR), "gw-2": key("gw-2", KeyState.DOOR, on=False)}
    lost = compare({}, [], doors)
    assert work(lost) == {"create": ("gw-1", "gw-2"), "more": True}  # gw-2 is made to be disabled
    there = [at_broker("gw-1", "gw-1", disabled=True), at_broker("gw-2", "gw-2")]
    assert work(compare({}, there, doors)) == {"enable": ("gw-1",), "disable": ("gw-2",), "urgent": {"gw-2"}}
    wrong = compare({}, [at_broker("gw-1", "other")], {"gw-1": doors["gw-1"]})
    assert work(wrong) == {"delete": ("gw-1",), "urgent": {"gw-1"}, "more": True}
    assert (wrong.desired, wrong.actual) == (1, 0)


def test_with_a_wrong_database_nothing_unknown_is_deleted() -> None:
    many = [at_broker(f"k:{number:04}", f"d{number}") for number in range(MOST_UNKNOWN + 1)]
    ended = at_broker("k:ended", "e")
    repair = compare({"k:ended": key("e", KeyState.ENDED)}, [*many, ended])
    assert work(repair) == {"delete": ("k:ended",), "withheld": MOST_UNKNOWN + 1}
    assert compare({}, many[:-1]).withheld == 0


def test_many_unknown_among_very_many_known_are_deleted() -> None:
    known = {f"k:known{number}": key(f"d{number}") for number in range(1_000)}
    records = [at_broker(name, its.client_id) for name, its in known.items()]
    unknown = [at_broker(f"k:{number}", "x") for number in range(MOST_UNKNOWN + 1)]
    assert len(compare(known, [*records, *unknown]).delete) == MOST_UNKNOWN + 1


def test_in_ranges_it_is_the_same() -> None:
    keys = {f"k:{number:03}": key(f"d{number}", on=number % 3 > 0) for number in range(100)}
    records = [*[at_broker(name, its.client_id) for name, its in keys.items()][::2], at_broker("k:zzz", "z")]
    doors = {"gw": key("gw", KeyState.DOOR)}
    comparison = Comparison(doors)
    edges = ["", "k:017", "k:018", "k:060", "k:999", "k:zzzz"]
    for low, high in pairwise(edges):
        part = {name: its for name, its in keys.items() if low < name <= high}
        comparison.range(part, [record for record in records if low < record.username <= high])
    assert comparison.repair() == compare(keys, records, doors)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "MOST_REPAIRS", 5)
    monkeypatch.setattr(projection, "MOST_NAMED", 3)
    keys = {f"k:{number}": key(f"d{number}", on=False) for number in range(9)}
    repair = compare(keys, [at_broker(name, its.client_id) for name, its in keys.items()])
    assert len(repair.disable) == 5
    assert repair.more
    lost = compare(keys, [])
    assert (len(lost.missing), lost.missing_count, lost.more) == (3, 9, False)
