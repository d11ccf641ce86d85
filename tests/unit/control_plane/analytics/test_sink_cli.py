"""The commands' own words."""

import argparse

import pytest

from control_plane.analytics import sink_cli
from shared.config import ConfigError

NOW_MS = 1_767_225_600_000


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser()
    commands = top.add_subparsers(required=True)
    jobs = commands.add_parser("analytics").add_subparsers(required=True)
    sink_cli.register(commands, jobs)
    return top


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("90s", NOW_MS - 90_000),
        ("10m", NOW_MS - 600_000),
        ("2h", NOW_MS - 7_200_000),
        ("1d", NOW_MS - 86_400_000),
        ("2026-01-01T00:00:00Z", NOW_MS),
        ("2026-01-01T01:00:00+01:00", NOW_MS),
        ("99999999d", 0),
    ],
)
def test_since(text: str | None, expected: int | None) -> None:
    assert sink_cli.since_ms(text, NOW_MS) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "10", "10x", "-5m", "2026-01-01", "1234567890123s"])
def test_a_since_that_is_none_is_the_users_mistake(text: str) -> None:
    with pytest.raises(ConfigError, match="--since"):
        sink_cli.since_ms(text, NOW_MS)


@pytest.mark.parametrize(
    "words",
    [
        ["analytics", "detector"],
        ["analytics", "forwarder"],
        ["analytics", "sink", "--start-over"],
        ["telemetry", "tail", "--device", "d", "--since", "1m", "--count", "3", "--json"],
        ["anomalies", "--device", "d", "--since", "1m", "--limit", "3", "--json"],
    ],
)
def test_every_command_runs_something(words: list[str]) -> None:
    assert callable(parser().parse_args(words).run)


@pytest.mark.parametrize("words", [["telemetry", "tail", "--count", "0"], ["anomalies", "--limit", "-1"]])
def test_counts_are_positive(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(words)
    assert caught.value.code == 2
    assert "at least 1" in capsys.readouterr().err


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["telemetry", "tail"], ["anomalies"], ["analytics", "sink"]):
        with pytest.raises(SystemExit):
            parser().parse_args([*words, "--help"])
        assert "example: " in capsys.readouterr().out
