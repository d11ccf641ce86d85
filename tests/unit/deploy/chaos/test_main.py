import json

import pytest

from deploy.chaos import __main__ as program
from deploy.chaos.__main__ import settings
from deploy.chaos.matrix import Stored, Victim
from deploy.chaos.run import Outcome
from deploy.chaos.window import Window
from deploy.demo.judge import Count
from shared.errors import Permanent, Transient


def test_settings_have_defaults_and_say_what_there_is():
    times, _, victims = settings({})
    assert times == 10
    assert victims == list(Victim)
    assert settings({"TIMES": "1", "SEED": "5", "VICTIMS": "agent,kafka"}) == (1, 5, [Victim.AGENT, Victim.KAFKA])
    with pytest.raises(Permanent, match="normalizer"):
        settings({"VICTIMS": "moon"})
    with pytest.raises(Permanent):
        settings({"TIMES": "0"})


def count(**change):
    kept = dict.fromkeys(Count.__dataclass_fields__, 0) | {"accepted": 10, "normalized": 10}
    return Count(**(kept | change))


def outcome(stored=Stored(0, 0, 0), disorder=0, **change):  # noqa: B008 - frozen
    return Outcome(count(**change), 11, disorder, stored, {"agent": 1.5})


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (outcome(lost=1), "neither"),
        (outcome(duplicates=1), "more than once"),
        (outcome(rejected=2), "2 accepted readings were rejected"),
        (outcome(disorder=1), "behind a later one"),
        (outcome(stored=Stored(1, 0, 0)), "telemetry"),
        (outcome(stored=Stored(0, 1, 0)), "telemetry"),
    ],
)
def test_each_broken_promise_is_a_failure(made, word):
    assert outcome().failures() == []
    (failure,) = made.failures()
    assert word in failure


def test_alarms_are_not_what_a_kill_is_judged_by():
    assert outcome(anomalies_injected=5, false_alarms=500).failures() == []


@pytest.mark.parametrize(("made", "status"), [(outcome(), 0), (outcome(lost=1), 1), (Transient("away"), 1)])
def test_the_last_line_is_one_object(made, status, monkeypatch, capsys):
    async def chaos(victims, times, seed, progress):
        if isinstance(made, Exception):
            raise made
        return made

    async def windows(seed, progress):
        return {"each_change": Window(500, 0), "each_second": Window(500, 80)}

    monkeypatch.setattr(program, "chaos", chaos)
    monkeypatch.setattr(program, "windows", windows)
    assert program.main() == status
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    if isinstance(made, Exception):
        assert said == {"error": "away"}
    else:
        assert said["local_broker"]["each_second"] == {"acknowledged": 500, "lost": 80}
        assert said["stored"] == {"missing": 0, "again": 0, "unknown": 0}
