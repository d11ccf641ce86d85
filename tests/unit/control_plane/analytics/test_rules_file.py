"""The rules' file: read again when it changes, never half, never with mistakes."""

import logging
import os
from pathlib import Path

import pytest

from control_plane.analytics import rules_file
from control_plane.analytics.rules_file import RulesFile
from shared.config import ConfigError

RULE = """
[[rule]]
id = "gate"
device_type = "gate"
metric = "closed"
op = "=="
threshold = true
sku = "PALLET"
location = "dock-4"
unit = "pcs"
quantity = -1
"""


class StillClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def wall_ms(self) -> int:
        raise NotImplementedError

    def monotonic_s(self) -> float:
        return self.now_s

    def boot_ms(self) -> int:
        raise NotImplementedError

    def boot_id(self) -> str:
        raise NotImplementedError

    def synced(self) -> bool:
        raise NotImplementedError


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))


def later(clock: StillClock) -> None:
    clock.now_s += rules_file.REFRESH_S


def skus(file: RulesFile) -> list[str]:
    return [rule.sku for rules in file.rules().values() for rule in rules]


def test_without_a_file_there_are_no_rules() -> None:
    assert RulesFile(None, StillClock()).rules() == {}


def test_toml_and_json(tmp_path: Path) -> None:
    toml, json = tmp_path / "rules.toml", tmp_path / "rules.json"
    toml.write_text(RULE)
    json.write_text(
        '{"rule": [{"id": "g", "device_type": "gate", "metric": "closed", "op": "==", "threshold": true,'
        ' "sku": "BOX", "location": "dock", "unit": "pcs", "quantity": 1}]}'
    )
    assert skus(RulesFile(toml, StillClock())) == ["PALLET"]
    assert skus(RulesFile(json, StillClock())) == ["BOX"]


def test_a_change_is_seen_after_a_while_and_not_looked_for_before(tmp_path: Path) -> None:
    path, clock = tmp_path / "rules.toml", StillClock()
    path.write_text(RULE)
    file = RulesFile(path, clock)
    write(path, RULE.replace("PALLET", "BOX"))
    assert skus(file) == ["PALLET"]
    later(clock)
    assert skus(file) == ["BOX"]


@pytest.mark.parametrize("text", ["[[rule]]", RULE.replace("PALLET", ""), "nonsense", "\udcff"])
def test_a_file_with_mistakes_changes_nothing_and_is_said_once(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "rules.toml", StillClock()
    path.write_text(RULE)
    file = RulesFile(path, clock)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    os.utime(path, ns=(0, 1))
    with caplog.at_level(logging.INFO, "events"):
        for _ in range(3):
            later(clock)
            assert skus(file) == ["PALLET"]
    assert [record.message for record in caplog.records] == ["rules_unfit"]
    write(path, RULE.replace("PALLET", "BOX"))
    later(clock)
    assert skus(file) == ["BOX"]


def test_a_file_that_went_away_changes_nothing_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "rules.toml", StillClock()
    path.write_text(RULE)
    file = RulesFile(path, clock)
    path.unlink()
    with caplog.at_level(logging.INFO, "events"):
        for _ in range(3):
            later(clock)
            assert skus(file) == ["PALLET"]
    assert [record.message for record in caplog.records] == ["rules_unfit"]
    write(path, RULE)
    later(clock)
    assert skus(file) == ["PALLET"]


def test_a_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(RULE)
    monkeypatch.setattr(rules_file, "LARGEST_BYTES", 10)
    with pytest.raises(ConfigError, match="larger"):
        RulesFile(path, StillClock())


def test_all_mistakes_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(RULE.replace("PALLET", "") + RULE.replace("gate", "a b", 1))
    with pytest.raises(ConfigError) as caught:
        RulesFile(path, StillClock())
    assert len(caught.value.mistakes) == 2
    with pytest.raises(ConfigError, match="cannot be read"):
        RulesFile(tmp_path / "none.toml", StillClock())
