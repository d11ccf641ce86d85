import json

from deploy.demo.judge import Count
from deploy.demo.show import Progress, last_line, table

COUNT = Count(6_000, 6_010, 80, 0, 0, 1, 2, 12, 24, 22, 3, 61.4, 1_250.0, None)


def test_the_last_line_is_one_object_with_every_figure():
    line = last_line(COUNT, seconds=75.2, seed=5)
    assert "\n" not in line
    said = json.loads(line)
    assert {
        "accepted", "normalized", "lost", "duplicates", "rejected", "anomalies_injected", "anomalies_detected",
        "false_alarms", "p50_ms", "p99_ms", "replay_p99_ms", "seconds",
    } <= set(said)  # fmt: skip
    assert said["anomalies_detected"] == 22


def test_the_table_has_a_line_for_each_figure():
    shown = table(COUNT).splitlines()
    assert len(shown) == 14
    assert any("6,010" in line for line in shown)
    assert shown[-1].split()[1] == "-"


def test_progress_speaks_on_standard_error_alone(capsys):
    progress = Progress()
    progress.tick("half")
    progress.say("done")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "demo: half\ndemo: done\n"
