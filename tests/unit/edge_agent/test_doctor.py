"""The checks that need no broker; those that do are in tests/stack/test_agent.py."""

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent import doctor
from edge_agent.config import AgentConfig
from edge_agent.doctor import Finding, Verdict
from edge_agent.local_broker_file import MARK
from edge_agent.running import Running


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    data_dir = tmp_path / "agent"
    data_dir.mkdir(mode=0o700)
    key = data_dir / "key"
    key.touch(mode=0o600)
    key.write_text("k:abc.secret")
    return AgentConfig(
        agent_id="gw-1",
        data_dir=data_dir,
        key_file=key,
        hub_mqtt_url="mqtt://127.0.0.1:9",
        local_mqtt_url="mqtt://127.0.0.1:9",
        outbox_max_mib=32,
        disk_floor_mib=0,
    )


def test_a_data_directory_is_there_writable_and_private(config: AgentConfig) -> None:
    assert doctor._data_dir(config).verdict is Verdict.OK
    config.data_dir.chmod(0o755)
    finding = doctor._data_dir(config)
    assert (finding.verdict, finding.do) == (Verdict.WARNING, f"chmod 700 {config.data_dir}")
    config.key_file.unlink()
    config.data_dir.rmdir()
    assert doctor._data_dir(config).verdict is Verdict.FAILED


def test_a_disk_at_its_floor_fails_and_one_without_room_for_the_outbox_warns(config: AgentConfig) -> None:
    assert doctor._disk(config).verdict is Verdict.OK
    tight = dataclasses.replace(config, outbox_max_mib=1_048_576)
    assert doctor._disk(tight).verdict is Verdict.WARNING
    full = dataclasses.replace(config, disk_floor_mib=1_048_576 * 1_024)
    assert doctor._disk(full).verdict is Verdict.FAILED


def test_a_key_file_is_judged_without_showing_the_secret(config: AgentConfig) -> None:
    good = doctor._key(config)
    assert good.verdict is Verdict.OK
    assert "k:abc" in good.found
    assert "secret" not in str(good)
    config.key_file.chmod(0o644)
    assert doctor._key(config).do == f"chmod 600 {config.key_file}"
    config.key_file.unlink()
    assert "registration" in doctor._key(config).do


async def test_with_a_bad_key_file_the_hub_is_not_tried(config: AgentConfig) -> None:
    config.key_file.chmod(0o644)
    hub = {finding.check: finding async for finding in doctor.examine(config, canary=False)}["hub"]
    assert (hub.verdict, hub.found) == (Verdict.SKIPPED, "not tried: the key file is bad")


@pytest.mark.parametrize("arrived", [Verdict.OK, Verdict.WARNING])
async def test_where_the_canary_arrived_the_hub_was_reached(
    config: AgentConfig, monkeypatch: pytest.MonkeyPatch, arrived: Verdict
) -> None:
    async def canary(*_: object) -> Finding:
        return Finding("canary", arrived, "it went")

    page = b'{"missing": [], "uplink": {"connected": false, "trouble": "not connected yet"}}'
    monkeypatch.setattr(doctor, "find", lambda _: Running(7, "127.0.0.1", 9))
    monkeypatch.setattr(doctor, "fetch", lambda *_: (200, page))
    monkeypatch.setattr(doctor, "_canary", canary)
    *_, hub, last = [finding async for finding in doctor.examine(config, canary=True)]
    assert (hub.check, hub.verdict) == ("hub", Verdict.OK if arrived is Verdict.OK else Verdict.FAILED)
    assert last.check == "canary"


async def test_what_does_not_answer_fails_with_advice(config: AgentConfig) -> None:
    findings = {finding.check: finding async for finding in doctor.examine(config, canary=True)}
    for check in ("local broker", "hub"):
        assert findings[check].verdict is Verdict.FAILED
        assert findings[check].do
    assert findings["agent"].verdict is Verdict.WARNING
    assert findings["canary"].verdict is Verdict.SKIPPED
    assert "local broker's version" not in findings


def test_a_local_broker_that_dropped_messages_is_a_warning() -> None:
    assert doctor.judge_drops(b"0").verdict is Verdict.OK
    finding = doctor.judge_drops(b"12")
    assert (finding.verdict, "12 messages" in finding.found) == (Verdict.WARNING, True)
    assert "max_queued_bytes" in finding.do


def test_a_finding_shows_its_advice_on_a_line_of_its_own() -> None:
    assert str(Finding("disk", Verdict.OK, "fine")) == "ok        disk: fine"
    assert str(Finding("disk", Verdict.FAILED, "full", "empty it")).splitlines()[1].strip() == "-> empty it"


def test_who_gets_in_from_the_lan_is_said(config: AgentConfig, tmp_path: Path) -> None:
    assert doctor._lan(config).verdict is Verdict.OK
    anonymous = doctor._lan(replace(config, lan_anonymous=True))
    assert (anonymous.verdict, "AGENT_LAN_DIR" in anonymous.do) == (Verdict.WARNING, True)
    lan = tmp_path / "lan"
    assert doctor._lan(replace(config, lan_dir=lan)).verdict is Verdict.FAILED
    lan.mkdir()
    assert doctor._lan(replace(config, lan_dir=lan)).verdict is Verdict.OK
    (lan / MARK).touch()
    due = doctor._lan(replace(config, lan_dir=lan))
    assert (due.verdict, "restart" in due.do) == (Verdict.WARNING, True)
