import math
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.anomaly import state
from edge_agent.anomaly.daytime import Daytime
from edge_agent.anomaly.episodes import Episodes
from edge_agent.anomaly.models import EDGE, RiverChannel
from edge_agent.anomaly.pair import Pair
from edge_agent.anomaly.residuals import Past
from edge_agent.anomaly.streams import Channel
from edge_agent.anomaly.surprise import Tail
from edge_agent.anomaly.watch import Watch


def values(count: int, seed: int = 1) -> list[float]:
    draw = Random(seed)
    made = [20 + 5 * math.sin(2 * math.pi * n / 288) + draw.gauss(0, 0.1) for n in range(count)]
    for at in range(400, count, 700):  # some faults, so that every part of the state is in use
        made[at] = -127.0
        made[at + 50 : at + 80] = [value + 9.0 for value in made[at + 50 : at + 80]]
    return made


def fed(count: int) -> Watch:
    watch, other = Watch(), Watch()
    for number, value in enumerate(values(count)):
        at_s = number * 300.0
        assert other.takes(at_s, value)
        other.judge(at_s, value, "temperature", None)
        assert watch.takes(at_s, value)
        score, _, _ = watch.judge(at_s, 3.7 + value / 1_000, "temperature", other)
        watch.episodes.alarm(at_s, score, watch.detector.line)
    return watch


def packed(count: int) -> bytes:
    return state.pack(fed(count), EDGE)


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 440, 470, 3_000])
def test_a_restored_channel_goes_on_exactly_as_the_first(count: int) -> None:
    watch, other = fed(count), Watch()
    again = state.unpack(state.pack(watch, EDGE), EDGE)
    assert again is not None
    for number, value in enumerate(values(600, seed=2)):
        at_s = (count + number) * 300.0
        other.judge(at_s, value, "temperature", None)
        assert watch.takes(at_s, value) == again.takes(at_s, value)
        one, two = (w.judge(at_s, 3.7 + value / 1_000, "temperature", other) for w in (watch, again))
        assert one == two
        assert watch.episodes.alarm(at_s, one[0], watch.detector.line) == again.episodes.alarm(
            at_s, two[0], again.detector.line
        )
    assert state.pack(watch, EDGE) == state.pack(again, EDGE)


def test_the_pair_is_kept() -> None:
    watch = fed(3_000)
    assert watch.pair is not None
    assert watch.pair.tail is not None
    again = state.unpack(state.pack(watch, EDGE), EDGE)
    assert again is not None
    assert again.pair is not None
    assert (again.pair.other, again.pair.samples) == ("temperature", watch.pair.samples)


@pytest.mark.parametrize("shape", [state.TAIL, state.DAYTIME, state.PAST, state.CHANNEL, state.EPISODES, state.PAIR])
def test_no_attribute_is_forgotten(shape) -> None:
    kept = {*shape.ints, *shape.floats, *(name for name, _, _ in shape.arrays)}
    nested = {
        Channel: {"past", "tails"},
        Past: {"daytime"},
        Tail: set(),
        Daytime: set(),
        Episodes: set(),
        Pair: {"other", "tail"},
    }
    assert kept | nested[shape.make] == set(shape.make.__slots__)


def test_the_size_is_bounded() -> None:
    assert len(packed(6_000)) <= state.STATE_BYTES
    assert len(packed(6_000)) < 8_192


def test_another_version_or_model_is_not_read() -> None:
    data = packed(500)
    assert state.unpack(data, "hst") is None
    other = msgspec.msgpack.decode(data)
    other[0] = state.VERSION + 1
    assert state.unpack(msgspec.msgpack.encode(other), EDGE) is None


def test_what_is_too_large_is_not_even_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed(500)
    monkeypatch.setattr(state, "STATE_BYTES", len(data))
    assert state.unpack(data, EDGE) is not None
    monkeypatch.setattr(state, "STATE_BYTES", len(data) - 1)
    assert state.unpack(data, EDGE) is None


def test_cut_bytes_are_refused() -> None:
    data = packed(2_000)
    assert all(state.unpack(data[:length], EDGE) is None for length in range(0, len(data), 97))


def test_a_damaged_state_is_refused_or_harmless() -> None:
    """Any byte changed: either it is not read, or what was read bears every value (it may judge otherwise)."""
    data = packed(2_000)
    draw = Random(3)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        found = state.unpack(bytes(damaged), EDGE)
        if found is None:
            refused += 1
            continue
        for number, value in enumerate((20.0, -127.0, 1e300, 20.1, 20.1)):
            score, _, _ = found.detector.observe((2_000 + number) * 300.0, value)
            assert 0.0 <= score < 1e3
            found.episodes.alarm((2_000 + number) * 300.0, score, found.detector.line)
    assert refused


def test_a_state_that_breaks_the_arithmetic_is_refused() -> None:
    def spoilt(change) -> bytes:
        watch = fed(2_000)
        change(watch.channel)
        return state.pack(watch, EDGE)

    def order(channel: Channel) -> None:
        channel.tails[0].values[0] = 1e9

    def nan(channel: Channel) -> None:
        channel.past.level = math.nan

    def ring(channel: Channel) -> None:
        del channel.past.ring[0]

    def index(channel: Channel) -> None:
        channel.past.ring_at = 48

    def negative(channel: Channel) -> None:
        channel.tails[1].values[0] = -1.0

    def streams(channel: Channel) -> None:
        channel.tails = channel.tails[:-1]

    assert state.unpack(spoilt(lambda channel: None), EDGE) is not None
    for change in (order, nan, ring, index, negative, streams):
        assert state.unpack(spoilt(change), EDGE) is None, change.__name__


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_borne(data: bytes) -> None:
    assert state.unpack(data, EDGE) is None


def test_a_river_model_is_kept_as_its_reservoir() -> None:
    watch = Watch("sad")
    for number, value in enumerate(values(700)):
        watch.detector.observe(number * 300.0, value)
    data = state.pack(watch, "sad")
    assert len(data) < state.STATE_BYTES
    found = state.unpack(data, "sad")
    assert found is not None
    assert isinstance(found.detector, RiverChannel)
    assert isinstance(watch.detector, RiverChannel)
    assert found.detector.reservoir == watch.detector.reservoir
    assert found.detector.observe(701 * 300.0, 200.0)[0] > 3.0
