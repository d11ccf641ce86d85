import pytest

from edge_agent.sim.__main__ import main


def test_more_devices_than_allowed_are_refused_with_what_to_do(monkeypatch, capsys):
    monkeypatch.setenv("SIM_MAX_DEVICES", "10")
    assert main(["--devices", "11", "--local", "mqtt://127.0.0.1:1"]) == 2
    assert "11 devices are more than SIM_MAX_DEVICES allows (10)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--devices", "1"], "nowhere to connect"),
        (["--rate", "0", "--local", "mqtt://127.0.0.1:1"], "--rate"),
        (["--gateways", "2", "--local", "mqtt://127.0.0.1:1"], "--local URLs"),
        (["--plan", "absent.json"], "absent.json"),
        (["--csv", "absent.csv", "--local", "mqtt://127.0.0.1:1"], "absent.csv"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_fault_lists_those_there_are(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--faults", "gremlins", "--local", "mqtt://127.0.0.1:1"])
    assert ended.value.code == 2
    assert "noise_burst" in capsys.readouterr().err


def test_a_key_file_that_others_may_read_is_refused(tmp_path, capsys):
    keys = tmp_path / "keys.json"
    keys.write_text("{}")
    keys.chmod(0o644)
    assert main(["--keys", str(keys), "--hub", "mqtt://127.0.0.1:1"]) == 2
    assert "chmod 600" in capsys.readouterr().err
