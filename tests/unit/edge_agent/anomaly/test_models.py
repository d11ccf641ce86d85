import math
import subprocess
import sys
from random import Random

import pytest

from edge_agent.anomaly.models import EDGE, FACTORIES, GRACE, RESERVOIR, RiverChannel, check_model
from shared.config import ConfigError


def normal(count: int) -> list[float]:
    draw = Random(1)
    return [20.0 + draw.gauss(0, 1) for _ in range(count)]


def fed(name: str, values: list[float]) -> RiverChannel:
    channel = RiverChannel(name)
    for number, value in enumerate(values):
        channel.observe(number * 300.0, value)
    return channel


@pytest.mark.parametrize("name", sorted(FACTORIES))
def test_each_model_finds_a_large_spike_and_names_itself(name: str) -> None:
    channel = fed(name, normal(1_200))
    ordinary = [channel.observe((1_200 + n) * 300.0, value)[0] for n, value in enumerate(normal(50))]
    score, reason, expected = channel.observe(1_250 * 300.0, 45.0)
    assert score > max(ordinary)
    assert reason == name
    assert expected == pytest.approx(20.0, abs=0.5)


@pytest.mark.parametrize("name", ["gaussian", "sad"])
def test_the_cheap_ones_reach_the_line(name: str) -> None:
    channel = fed(name, normal(1_200))
    assert channel.observe(1_200 * 300.0, 45.0)[0] > channel.line


@pytest.mark.parametrize("name", sorted(FACTORIES))
def test_a_glitch_in_a_quiet_channel_breaks_nothing(name: str) -> None:
    """The series on which River's windowed Gaussian raises TypeError, a constant, and the largest floats."""
    quiet = [21.5] * 300 + [-127.0] * 3 + [21.5] * 450 + [1.7e308, -1.7e308, 21.5]
    assert fed(name, quiet).reservoir[-1] == 21.5
    channel = fed(name, [1.7e308, -1.7e308] * 3 + [21.5] * 400)
    assert 0.0 <= channel.observe(1e9, 21.5)[0] < 1e3
    assert math.isfinite(channel._level + channel._spread)


def test_before_the_grace_is_over_nothing_is_scored() -> None:
    channel = RiverChannel("gaussian")
    values = [*normal(GRACE - 1), 1e6]
    assert all(channel.observe(n * 300.0, value)[0] == 0.0 for n, value in enumerate(values))


def test_the_reservoir_is_bounded_and_relearned() -> None:
    channel = fed("gaussian", normal(2 * RESERVOIR))
    assert len(channel.reservoir) == RESERVOIR
    again = RiverChannel("gaussian")
    again.relearn(channel.reservoir, channel.interval_s, 2 * RESERVOIR * 300.0)
    assert again.reservoir == channel.reservoir
    assert again.interval_s == pytest.approx(300.0)
    assert again.observe((2 * RESERVOIR + 1) * 300.0, 60.0)[0] > 3.0


def test_an_unknown_name_lists_the_choices() -> None:
    for name in (EDGE, *FACTORIES):
        check_model(name)
    with pytest.raises(ConfigError, match="'lstm' is unknown; the choices are edge, gaussian, hst, loda, sad, svm"):
        check_model("lstm")


def test_river_s_models_load_only_when_one_is_made() -> None:
    code = (
        "import sys; from edge_agent.anomaly.models import RiverChannel; before = 'river.anomaly' in sys.modules;"
        " RiverChannel('sad'); print(before, 'river.anomaly' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
