"""The detector's promise on real series, in little: what the demo judges. The long run: detector_eval.py."""

from pathlib import Path
from random import Random

import pytest

from tests.eval import detector_eval as evaluation


@pytest.mark.parametrize("name", ["sf-temps", "seattle-temps"])
@pytest.mark.parametrize("warm", [500, 1_000])
def test_injected_faults_are_found_with_hardly_a_false_alarm(name: str, warm: int) -> None:
    values = evaluation.series(name, "temp")
    tally = evaluation.inject(values, evaluation.Experiment(warm=warm), seed=200)
    assert sum(tally.injected.values()) >= 20
    assert tally.hit_rate >= 0.8
    assert tally.false_per_1000 <= 2.0


def test_without_faults_there_is_nothing_to_find() -> None:
    values = evaluation.series("sf-temps", "temp")
    tally = evaluation.inject(values, evaluation.Experiment(share_of_devices=0.0), seed=201)
    assert sum(tally.injected.values()) == 0
    assert tally.false_per_1000 <= 0.5


def test_the_count_knows_a_blind_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.anomaly.episodes.Episodes.alarm", lambda *_: False)
    tally = evaluation.inject(evaluation.series("sf-temps", "temp"), evaluation.Experiment(devices=5), seed=202)
    assert (tally.hit_rate, tally.false_alarms) == (0.0, 0)


def test_the_count_knows_a_nervous_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.anomaly.episodes.Episodes.alarm", lambda *_: True)
    tally = evaluation.inject(evaluation.series("sf-temps", "temp"), evaluation.Experiment(devices=5), seed=203)
    assert tally.hit_rate == 1.0
    assert tally.false_per_1000 > 200.0


def test_a_labelled_file_of_one_s_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = Random(1)
    rows = [f"{20 + draw.gauss(0, 0.1) + (5 if 700 <= n < 720 else 0)},{int(700 <= n < 720)}" for n in range(900)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["value,label", *rows]), encoding="utf-8")
    evaluation.main(["labelled", str(path), "--value", "value", "--interval", "60"])
    assert "1 of 1 events found, 0 false alarms" in capsys.readouterr().out
