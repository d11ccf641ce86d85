import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.__main__ import main
from edge_agent.outbox_schema import migrate


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENT_ID", "gw-1")
    monkeypatch.setenv("AGENT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("AGENT_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("HUB_MQTT_URL", "mqtt://127.0.0.1:9")
    return tmp_path


def test_mistakes_of_configuration_are_named_one_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AGENT_ID", "AGENT_DATA_DIR", "AGENT_KEY_FILE", "HUB_MQTT_URL"):
        monkeypatch.delenv(name, raising=False)
    assert main(["run"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("edge-agent: ") for line in lines)


def test_usage_is_exit_2_and_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as wrong:
        main(["dance"])
    assert wrong.value.code == 2
    with pytest.raises(SystemExit) as asked:
        main(["--help"])
    assert asked.value.code == 0
    assert "edge-agent warm --csv" in capsys.readouterr().out


def test_a_failure_says_what_to_do(gateway: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger"]) == 1
    assert "AGENT_DATA_DIR" in capsys.readouterr().err
    assert main(["run"]) == 2  # no key file
    assert "key" in capsys.readouterr().err


@pytest.mark.usefixtures("gateway")
def test_ctrl_c_is_status_130_and_no_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def pressed(*_: object, **__: object) -> AsyncIterator[object]:
        yield "ok  one finding"
        raise KeyboardInterrupt

    monkeypatch.setattr("edge_agent.doctor.examine", pressed)
    assert main(["doctor", "--canary"]) == 130
    said = capsys.readouterr()
    assert (said.out, said.err) == ("ok  one finding\n", "")


def test_ledger_and_status_of_a_file_at_rest(gateway: Path, capsys: pytest.CaptureFixture[str]) -> None:
    migrate(gateway / "outbox.db")
    assert main(["ledger", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes"]["telemetry"] == dict.fromkeys(
        ("accepted", "acked", "waiting", "thinned", "expired", "damaged"), 0
    )
    assert main(["ledger"]) == 0
    assert "balances" in capsys.readouterr().out
    assert main(["status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["running"] is False


def test_warm_learns_from_a_file(models_file: Path, gateway: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = gateway / "history.csv"
    history.write_text("temperature\n" + "".join(f"{n % 7}\n" for n in range(100)))
    words = ["warm", "--csv", str(history), "--device", "d1", "--metric", "temperature", "--interval", "1"]
    assert main(words) == 0
    assert capsys.readouterr().out == "learned 100 rows (0 empty cells left out)\n"
    assert main([*words, "--column", "other"]) == 1
    assert "no column 'other'" in capsys.readouterr().err


def test_what_may_work_later_is_exit_4(gateway: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (gateway / "models.db").mkdir()
    history = gateway / "history.csv"
    history.write_text("t\n1\n")
    assert main(["warm", "--csv", str(history), "--device", "d1", "--metric", "t", "--interval", "1"]) == 4
    assert "AGENT_DATA_DIR" in capsys.readouterr().err


def test_doctor_fails_where_a_check_fails(gateway: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert {"check", "verdict", "found", "do"} == set(findings[0])
