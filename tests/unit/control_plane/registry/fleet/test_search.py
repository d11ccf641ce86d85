"""The ways to read a list; that they find what they should: tests/stack/registry/fleet/test_finder.py."""

import pytest

from control_plane.registry.fleet import search
from control_plane.registry.fleet.search import EVERYBODY, Filter, Label
from shared.device import Kind, Status

ALL = Filter(Kind.DEVICE, Status.ACTIVE, "t", "gw", "group", (Label("a", "1"), Label("b")), "x%y")


def test_each_filter_but_the_serial_has_a_stream() -> None:
    assert len(search.streams(ALL)) == 6
    assert len(search.streams(Filter(kind=Kind.GATEWAY))) == 1
    assert search.streams(Filter()) == search.streams(Filter(Kind.DEVICE, text="abc")) == (EVERYBODY,)


@pytest.mark.parametrize("stream", [None, *search.streams(ALL)], ids=lambda stream: stream and stream.condition)
def test_each_value_is_a_parameter_and_none_is_in_the_text(stream: search.Stream | None) -> None:
    statement = search.page(ALL, stream, "after", None, 10)
    assert statement.values[:3] == ["after", search.END, 10]
    for number in range(1, len(statement.values) + 1):
        assert f"${number}" in statement.text
    for value in ("gw", "group", "x%y", "after"):
        assert f"'{value}'" not in statement.text
    assert "OFFSET" not in statement.text
    assert "count(" not in statement.text


def test_the_probe_asks_each_stream_for_one_id() -> None:
    choices = search.streams(ALL)
    statement = search.probe(choices, "after")
    assert statement.text.count(f"LIMIT {search.STRIDE}") == len(choices)
    assert statement.values[0] == "after"


@pytest.mark.parametrize(("ahead", "chosen"), [(["b", "c", "a"], 1), (["z", None], 1), ([None, None], 0), (["a"], 0)])
def test_the_sparsest_stream_reaches_farthest(ahead: list[str | None], chosen: int) -> None:
    assert search.sparsest(ahead) == chosen


@pytest.mark.parametrize(
    ("text", "pattern"), [("SN-1", "%SN-1%"), ("1%", "%1\\%%"), ("a_b", "%a\\_b%"), ("\\", "%\\\\%")]
)
def test_what_is_special_in_patterns_is_meant_as_it_stands(text: str, pattern: str) -> None:
    assert search.pattern(text) == pattern
    assert search.count_text(text).values == [pattern]


def test_every_id_is_before_the_end() -> None:
    assert all(chr(code) * 64 < search.END for code in range(ord("z") + 1))
