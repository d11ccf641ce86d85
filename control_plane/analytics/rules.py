"""Inventory rules: what they are, and reading them from TOML or JSON. PURE: text in, rules or mistakes out.

[[rule]]
id = "gate-count"            # names the rule's state: give a rule that means something else another id
device_type = "gate"
metric = "closed"            # the condition: metric, op, threshold
op = "=="
threshold = true
debounce_s = 2.0             # the condition must hold for so long, by the readings' own times
sku = "PALLET"
location = "dock-4"
unit = "pcs"
quantity = -1                # each time the condition begins to hold …
late = "count"               # whether readings that come late are counted: "ignore" (default) or "count"

[[rule]]
…
level = { metric = "weight_kg", dead_band = 0.5, scale = 1.0 }   # … or: while it holds, what a level changes by
"""

import json
import math
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeAlias

import msgspec

MOST_RULES = 1_000
LONGEST_DEBOUNCE_S = 86_400.0
_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")


class Op(StrEnum):
    """How a metric is compared with the threshold."""

    ABOVE = ">"
    AT_LEAST = ">="
    BELOW = "<"
    AT_MOST = "<="
    EQUAL = "=="
    UNEQUAL = "!="


class Late(StrEnum):
    """What becomes of readings that are older than others of their device, or of the replay lane."""

    IGNORE = "ignore"
    COUNT = "count"


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The quantity is what `metric` changes by, times `scale`; changes below `dead_band` (in its unit) wait."""

    metric: str
    dead_band: float
    scale: float = 1.0


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule. Exactly one of `quantity` and `level` is there."""

    id: str
    device_type: str
    metric: str
    op: Op
    threshold: float | bool | str
    debounce_s: float = 0.0
    sku: str
    location: str
    unit: str
    reason: str = "sensor"
    quantity: float | None = None
    level: Level | None = None
    late: Late = Late.IGNORE

    def holds(self, value: object) -> bool | None:
        """Whether the condition holds for a metric's value; None if the two cannot be compared."""
        if isinstance(self.threshold, str) or isinstance(value, str):
            if type(self.threshold) is not type(value) or self.op not in (Op.EQUAL, Op.UNEQUAL):
                return None
            return (value == self.threshold) is (self.op is Op.EQUAL)
        if not isinstance(value, int | float):  # a boolean is an int: 0 or 1
            return None
        return _compare(self.op, float(value), float(self.threshold))


Rules: TypeAlias = Mapping[str, tuple[Rule, ...]]
"""Rules by device type."""

NO_RULES: Rules = {}


def parse(text: str, *, is_json: bool) -> Rules | list[str]:
    """The rules of a file: TOML with `[[rule]]` tables, or JSON {"rule": […]}; or all mistakes, a sentence each."""
    try:
        table = json.loads(text) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # both decoders' errors are ValueErrors
        return [f"not {'JSON' if is_json else 'TOML'}: {error}"]
    if not isinstance(table, dict) or set(table) - {"rule"} or not isinstance(table.get("rule", []), list):
        return ["holds other things than [[rule]] tables"]
    raw = table.get("rule", [])
    if len(raw) > MOST_RULES:
        return [f"{len(raw)} rules; at most {MOST_RULES}"]
    by_type: defaultdict[str, list[Rule]] = defaultdict(list)
    mistakes: list[str] = []
    for number, fields in enumerate(raw, 1):
        rule, found = _read(fields)
        mistakes += [f"rule {number}: {mistake}" for mistake in found]
        if rule is not None:
            by_type[rule.device_type].append(rule)
    ids = Counter(rule.id for rules in by_type.values() for rule in rules)
    mistakes += [f"{count} rules have the id {name}" for name, count in ids.items() if count > 1]
    return mistakes or {device_type: tuple(rules) for device_type, rules in by_type.items()}


def _read(fields: Any) -> tuple[Rule | None, list[str]]:
    try:
        rule = msgspec.convert(fields, Rule, strict=True)
    except msgspec.ValidationError as error:
        return None, [str(error)]
    mistakes = []
    if _ID.match(rule.id) is None:
        mistakes.append("id is 1 to 64 of A-Z a-z 0-9 _ - and begins with a letter or a digit")
    if (rule.quantity is None) is (rule.level is None):
        mistakes.append("needs either quantity or level")
    if isinstance(rule.threshold, str) and rule.op not in (Op.EQUAL, Op.UNEQUAL):
        mistakes.append("text is compared by == and != only")
    if not 0 <= rule.debounce_s <= LONGEST_DEBOUNCE_S:
        mistakes.append(f"debounce_s is 0 to {LONGEST_DEBOUNCE_S:.0f}")
    if rule.level is not None and not (rule.level.dead_band > 0 and math.isfinite(rule.level.dead_band)):
        mistakes.append("dead_band is above 0")
    if rule.level is not None and not (rule.level.scale and math.isfinite(rule.level.scale)):
        mistakes.append("scale is not 0")
    if rule.quantity is not None and not (rule.quantity and math.isfinite(rule.quantity)):
        mistakes.append("quantity is not 0")
    mistakes += [
        f"{name} is 1 to 128 characters"
        for name in ("device_type", "metric", "sku", "location", "unit", "reason")
        if not 1 <= len(getattr(rule, name)) <= 128
    ]
    return (None, mistakes) if mistakes else (rule, [])


def _compare(op: Op, value: float, threshold: float) -> bool:
    match op:
        case Op.ABOVE:
            return value > threshold
        case Op.AT_LEAST:
            return value >= threshold
        case Op.BELOW:
            return value < threshold
        case Op.AT_MOST:
            return value <= threshold
        case Op.EQUAL:
            return value == threshold
        case Op.UNEQUAL:
            return value != threshold
