from deploy.bench.report import Figure, Goal, document, figure, table


def test_a_figure_shows_its_spread():
    assert figure("x", "ms", [3.0, 1.0, 2.0]) == Figure("x", "ms", 1.0, 2.0, 3.0, 3)


def test_a_goal_is_held_against_the_median():
    item = figure("x", "ms", [1.0, 5.0, 9.0])
    assert Goal(at_least=True, value=5.0).reached(item)
    assert not Goal(at_least=True, value=5.1).reached(item)
    assert Goal(at_least=False, value=5.0).reached(item)
    assert not Goal(at_least=False, value=4.9).reached(item)


def test_the_table_says_what_was_missed():
    shown = table([figure("fast", "msgs/s", [12_345.6]), figure("slow", "ms", [1.234])], {"slow": Goal(False, 1.0)})
    header, fast, slow = shown.splitlines()
    assert header.startswith("figure")
    assert "12,346" in fast
    assert fast.endswith("msgs/s")
    assert slow.endswith("<= 1 MISSED")


def test_the_document_is_a_list_of_figures_beside_machine_and_versions():
    made = document([figure("x", "ms", [1.0])], {"cores": 2}, {"python": "3.11"})
    assert made["results"] == [{"name": "x", "unit": "ms", "min": 1.0, "median": 1.0, "max": 1.0, "runs": 1}]
    assert made["machine"] == {"cores": 2}
