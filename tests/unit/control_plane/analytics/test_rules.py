"""Inventory rules: reading them, and their conditions."""

import json

import pytest

from control_plane.analytics import rules
from control_plane.analytics.rules import Late, Level, Op, Rule

GATE = """
[[rule]]
id = "gate"
device_type = "gate"
metric = "closed"
op = "=="
threshold = true
debounce_s = 2
sku = "PALLET"
location = "dock-4"
unit = "pcs"
quantity = -1
late = "count"

[[rule]]
id = "silo"
device_type = "scale"
metric = "weight_kg"
op = ">="
threshold = 0
sku = "FEED"
location = "barn"
unit = "kg"
reason = "consumed"
level = { metric = "weight_kg", dead_band = 0.5 }
"""


def rule(**changes: object) -> dict[str, object]:
    return {
        "id": "r", "device_type": "t", "metric": "m", "op": ">", "threshold": 1, "sku": "S", "location": "L",
        "unit": "pcs", "quantity": 1,
    } | changes  # fmt: skip


def parsed(**changes: object) -> object:
    fields = {key: value for key, value in rule(**changes).items() if value is not None}
    return rules.parse(json.dumps({"rule": [fields]}), is_json=True)


def test_a_file_of_both_kinds() -> None:
    found = rules.parse(GATE, is_json=False)
    assert isinstance(found, dict)
    assert set(found) == {"gate", "scale"}
    gate = found["gate"][0]
    assert gate == Rule(
        id="gate", device_type="gate", metric="closed", op=Op.EQUAL, threshold=True, debounce_s=2.0, sku="PALLET",
        location="dock-4", unit="pcs", quantity=-1.0, late=Late.COUNT,
    )  # fmt: skip
    silo = found["scale"][0]
    assert silo.level == Level("weight_kg", 0.5, 1.0)
    assert silo.late is Late.IGNORE
    assert silo.reason == "consumed"


def test_no_rules_is_no_mistake() -> None:
    assert rules.parse("", is_json=False) == {}
    assert rules.parse("{}", is_json=True) == {}


def test_all_mistakes_at_once() -> None:
    bad = json.dumps({"rule": [rule(id="a b"), rule(op="~"), rule(quantity=None), rule()]})
    found = rules.parse(bad, is_json=True)
    assert isinstance(found, list)
    assert [text.split(":")[0] for text in found] == ["rule 1", "rule 2", "rule 3"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": "a b"}, "id is"),
        ({"id": ""}, "id is"),
        ({"op": "~"}, "Invalid enum value"),
        ({"quantity": None}, "either"),
        ({"level": {"metric": "m", "dead_band": 1}}, "either"),
        ({"quantity": 0}, "not 0"),
        ({"quantity": "1"}, "Expected"),
        ({"threshold": "on"}, "== and !="),
        ({"debounce_s": -1}, "debounce_s"),
        ({"debounce_s": 1e9}, "debounce_s"),
        ({"quantity": None, "level": {"metric": "m", "dead_band": 0}}, "dead_band"),
        ({"quantity": None, "level": {"metric": "m", "dead_band": 1, "scale": 0}}, "scale"),
        ({"sku": ""}, "sku is"),
        ({"location": "x" * 129}, "location is"),
        ({"colour": "red"}, "unknown"),
        ({"late": "perhaps"}, "Invalid enum value"),
    ],
)
def test_a_mistake_is_said(changes: dict[str, object], words: str) -> None:
    found = parsed(**changes)
    assert isinstance(found, list)
    assert any(words in text for text in found), found


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_are_finite(number: float) -> None:
    assert isinstance(parsed(quantity=number), list)
    assert isinstance(parsed(quantity=None, level={"metric": "m", "dead_band": number}), list)
    assert isinstance(parsed(quantity=None, level={"metric": "m", "dead_band": 1, "scale": number}), list)
    assert isinstance(parsed(debounce_s=number), list)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"rules": []}', '{"rule": {}}', '{"rule": [7]}', "[" * 100_000]
)  # fmt: skip
def test_no_text_is_too_bad(text: str) -> None:
    assert isinstance(rules.parse(text, is_json=True), list)
    assert isinstance(rules.parse("rule = x" + text, is_json=False), list)


def test_ids_are_unique_over_types() -> None:
    found = rules.parse(json.dumps({"rule": [rule(), rule(device_type="u")]}), is_json=True)
    assert found == ["2 rules have the id r"]


def test_rules_are_bounded() -> None:
    many = [rule(id=f"r{number}") for number in range(rules.MOST_RULES + 1)]
    assert rules.parse(json.dumps({"rule": many}), is_json=True) == ["1001 rules; at most 1000"]


@pytest.mark.parametrize(
    ("op", "threshold", "value", "expected"),
    [
        (">", 5, 5, False),
        (">", 5, 5.1, True),
        (">=", 5, 5, True),
        ("<", 5, 5, False),
        ("<=", 5, 5, True),
        ("==", 5, 5.0, True),
        ("!=", 5, 5.0, False),
        ("==", True, True, True),
        ("==", True, 1, True),
        ("==", True, False, False),
        (">", 0, True, True),
        ("==", "open", "open", True),
        ("!=", "open", "shut", True),
        ("!=", "open", "open", False),
        ("==", "open", 1, None),
        ("==", 1, "1", None),
        (">", 1, None, None),
    ],
)
def test_conditions(op: str, threshold: object, value: object, expected: bool | None) -> None:
    found = parsed(op=op, threshold=threshold)
    assert isinstance(found, dict)
    assert found["t"][0].holds(value) is expected
