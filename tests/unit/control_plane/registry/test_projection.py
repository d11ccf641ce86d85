"""What brings the broker's records to what Postgres holds."""

from control_plane.registry.dynsec import BrokerRecord
from control_plane.registry.projection import MOST_UNKNOWN, Key, KeyState, Repair, compare, enabled
from shared.device import Status


def key(device: str, state: KeyState = KeyState.HELD, *, on: bool = True) -> Key:
    return Key(device, state, on)


def at_broker(name: str, device: str | None, *, disabled: bool = False) -> BrokerRecord:
    return BrokerRecord(name, device, disabled)


def test_equal_needs_nothing() -> None:
    keys = {"k:a": key("a"), "k:b": key("b", on=False)}
    records = [at_broker("k:a", "a"), at_broker("k:b", "b", disabled=True), at_broker("_ingest", None)]
    assert compare(keys, records) == Repair()


def test_unknown_and_ended_keys_go() -> None:
    keys = {"k:ended": key("a", KeyState.ENDED)}
    records = [at_broker("k:ended", "a"), at_broker("k:unknown", "b")]
    assert compare(keys, records) == Repair(delete=("k:ended", "k:unknown"))


def test_records_of_others_stay() -> None:
    assert compare({}, [at_broker("_monitor", None), at_broker("admin", None)]) == Repair()


def test_a_key_under_way_may_be_there_or_not() -> None:
    keys = {"k:a": key("a", KeyState.PENDING)}
    assert compare(keys, []) == Repair()
    assert compare(keys, [at_broker("k:a", "a")]) == Repair()


def test_a_lost_key_is_missing_and_an_ended_one_is_not_missed() -> None:
    assert compare({"k:a": key("a"), "k:b": key("b", KeyState.ENDED)}, []) == Repair(missing=("k:a",))


def test_a_record_bound_to_another_client_is_deleted_and_missing() -> None:
    assert compare({"k:a": key("a")}, [at_broker("k:a", "b")]) == Repair(delete=("k:a",), missing=("k:a",))
    assert compare({"k:a": key("a")}, [at_broker("k:a", None)]) == Repair(delete=("k:a",), missing=("k:a",))


def test_status_decides_who_may_connect() -> None:
    keys = {"k:a": key("a", on=False), "k:b": key("b")}
    records = [at_broker("k:a", "a"), at_broker("k:b", "b", disabled=True)]
    assert compare(keys, records) == Repair(disable=("k:a",), enable=("k:b",))
    assert {status for status in Status if enabled(status)} == {Status.PROVISIONED, Status.ACTIVE}


def test_with_a_wrong_database_nothing_unknown_is_deleted() -> None:
    many = [at_broker(f"k:{number}", f"d{number}") for number in range(MOST_UNKNOWN + 1)]
    ended = at_broker("k:ended", "e")
    repair = compare({"k:ended": key("e", KeyState.ENDED)}, [*many, ended])
    assert repair.delete == ("k:ended",)
    assert len(repair.withheld) == MOST_UNKNOWN + 1
    assert compare({}, many[:-1]).withheld == ()


def test_many_unknown_among_very_many_known_are_deleted() -> None:
    known = {f"k:known{number}": key(f"d{number}") for number in range(1_000)}
    records = [at_broker(name, its.client_id) for name, its in known.items()]
    unknown = [at_broker(f"k:{number}", "x") for number in range(MOST_UNKNOWN + 1)]
    assert len(compare(known, [*records, *unknown]).delete) == MOST_UNKNOWN + 1
