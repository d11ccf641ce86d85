import math
from pathlib import Path
from random import Random

import pytest

from edge_agent.anomaly import Scorer
from edge_agent.warm import LEAST_ROWS, WarmReport, read_column, warm, warm_csv
from shared.errors import Reason, Rejected

NOW_S = 1_790_000_000.0


def history(count: int = 500) -> list[float]:
    draw = Random(1)
    return [round(20 + draw.gauss(0, 0.5), 2) for _ in range(count)]


def written(path: Path, rows: list[str], header: str = "date,temp") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def into(scorer: Scorer, path: Path, column: str = "temp", interval_s: float = 0.2) -> WarmReport | Rejected:
    return warm_csv(
        path, column, scorer=scorer, device_id="d", metric="temperature", interval_s=interval_s, now_s=NOW_S
    )


def test_a_warm_channel_judges_its_first_live_reading(tmp_path: Path) -> None:
    warmed, cold = Scorer(), Scorer()
    path = written(tmp_path / "h.csv", [f"2010-01-01,{value}" for value in history()])
    assert into(warmed, path) == WarmReport(learned=500, empty=0)
    assert warmed.score("d", "temperature", NOW_S + 0.2, 40.0) is not None
    assert cold.score("d", "temperature", NOW_S + 0.2, 40.0) is None


def test_history_is_restamped_and_ends_now() -> None:
    scorer = Scorer()
    warm(scorer, history(), device_id="d", metric="m", interval_s=0.2, now_s=NOW_S)
    watch = scorer._channels[("d", "m")]
    assert watch.at_s == NOW_S
    assert watch.detector.channels["value"].past.interval_s == pytest.approx(0.2, rel=1e-3)


def test_faults_in_history_are_no_alarms_and_do_not_deafen() -> None:
    scorer = Scorer()
    values = history(1_000)
    for at in range(100, 1_000, 150):
        values[at] = 60.0
    warm(scorer, values, device_id="d", metric="m", interval_s=0.2, now_s=NOW_S)
    assert len(scorer._channels[("d", "m")].episodes.earlier) == 0
    assert scorer.score("d", "m", NOW_S + 0.2, 40.0) is not None


def test_empty_cells_keep_their_place_in_time(tmp_path: Path) -> None:
    cells = [str(value) for value in history(100)]
    cells[10] = ""
    cells[11] = "nan"
    scorer = Scorer()
    assert into(scorer, written(tmp_path / "h.csv", [f"x,{cell}" for cell in cells])) == WarmReport(98, 2)
    assert into(Scorer(), written(tmp_path / "short.csv", ["x", *(f"x,{cell}" for cell in cells[20:])])).empty == 1


@pytest.mark.parametrize(
    ("rows", "column", "reason", "says"),
    [
        (["x,1.5"] * 50, "humidity", Reason.BAD_FIELD, "line 1: no column 'humidity'; found: date, temp"),
        ([*["x,1.5"] * 50, "x,warm"], "temp", Reason.BAD_FIELD, "line 52: 'warm' is not a number"),
        (["x,1.5"] * (LEAST_ROWS - 1), "temp", Reason.BAD_FIELD, f"at least {LEAST_ROWS} are needed"),
        (["x,"] * 50, "temp", Reason.BAD_FIELD, "0 numbers in 'temp'"),
        (['x,"1.5'] * 50, "temp", Reason.MALFORMED, "not a CSV file"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, rows, column, reason, says) -> None:
    scorer = Scorer()
    found = into(scorer, written(tmp_path / "h.csv", rows), column)
    assert isinstance(found, Rejected)
    assert found.reason is reason
    assert says in found.detail
    assert len(scorer) == 0


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").write_bytes(b"")
    for name, says in (("absent", "No such file"), ("binary", "not a CSV file"), ("empty", "found: nothing")):
        found = read_column(tmp_path / name, "temp")
        assert isinstance(found, Rejected)
        assert says in found.detail


def test_a_file_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.warm.MAX_ROWS", 100)
    found = read_column(written(tmp_path / "h.csv", ["x,1"] * 101), "temp")
    assert isinstance(found, Rejected)
    assert (found.reason, "line 102" in found.detail) == (Reason.TOO_LARGE, True)


@pytest.mark.parametrize("interval_s", [0.0, -1.0, math.nan, math.inf])
def test_the_interval_must_be_one(tmp_path: Path, interval_s: float) -> None:
    path = written(tmp_path / "h.csv", ["x,1"] * 50)
    assert isinstance(into(Scorer(), path, interval_s=interval_s), Rejected)


def test_a_spreadsheet_s_mark_at_the_beginning_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text("\ufefftemp, x\n" + "1.5,2\n" * 40, encoding="utf-8")
    assert read_column(path, "temp") == [1.5] * 40
    assert read_column(path, "x") == [2.0] * 40
