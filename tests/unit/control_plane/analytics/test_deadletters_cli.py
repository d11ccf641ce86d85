"""The commands' words; what they do on real servers is in tests/stack/test_normalizer.py."""

import argparse

import pytest

from control_plane.analytics import deadletters_cli
from control_plane.analytics.deadletters import Choice, DeadLetter
from shared.config import ConfigError
from tests.unit.control_plane.analytics.raw_kit import Bench, batched, direct, reading


def parser():
    top = argparse.ArgumentParser()
    commands = top.add_subparsers(required=True)
    jobs = commands.add_parser("analytics").add_subparsers(required=True)
    deadletters_cli.register(commands, jobs)
    return top


def test_the_choice_is_what_was_said():
    args = parser().parse_args(
        ["deadletters", "replay", "--reason", "bomb", "--device", "d", "--id", "i", "--since", "2026-01-01T00:00:00Z"]
    )
    assert deadletters_cli._choice(args) == Choice("bomb", "d", "i", 1_767_225_600_000)
    args = parser().parse_args(["deadletters", "list"])
    assert deadletters_cli._choice(args) == Choice()


@pytest.mark.parametrize("words", [["--reason", "whim"], ["--since", "soon"], []])
def test_a_replay_needs_a_choice_that_makes_sense(words, monkeypatch):
    monkeypatch.setenv("HUB_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    args = parser().parse_args(["deadletters", "replay", *words])
    with pytest.raises(ConfigError):
        args.run(args)


def test_an_address_is_needed(monkeypatch):
    monkeypatch.delenv("HUB_KAFKA_BOOTSTRAP", raising=False)
    args = parser().parse_args(["deadletters", "show", "x"])
    with pytest.raises(ConfigError):
        args.run(args)


@pytest.mark.parametrize("words", [["list", "--limit", "0"], ["replay", "--rate", "x"], ["show"], []])
def test_what_is_no_command(words, capsys):
    with pytest.raises(SystemExit) as error:
        parser().parse_args(["deadletters", *words])
    assert error.value.code == 2
    capsys.readouterr()


def test_a_letter_on_a_line_and_in_brief():
    (output,) = Bench().outputs(direct(b"nonsense"))
    letter = DeadLetter(output.id, output.key, output.data)
    line = deadletters_cli._line(letter)
    assert all(word in line for word in ("malformed", "solo", output.id))
    assert "\n" not in line
    brief = deadletters_cli._brief(letter)
    assert (brief["ce_id"], brief["reason"], brief["origin"]["sender"]) == (output.id, "malformed", "solo")
    assert "payload_base64" not in brief


def test_what_a_sender_wrote_does_not_steer_the_terminal(monkeypatch, capsys):
    (output,) = Bench().outputs(
        batched([reading()], payload=b"x", marks={"content-type": "\x1b[2J", "clock": "\x1b]0;x"})
    )
    letter = DeadLetter(output.id + "\x1b", output.key, output.data)
    assert "\x1b" not in deadletters_cli._line(letter)

    async def found(*_):
        return letter

    monkeypatch.setattr("control_plane.analytics.deadletters.find", found)
    monkeypatch.setenv("HUB_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    args = parser().parse_args(["deadletters", "show", "x"])
    assert args.run(args) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "content_type \ufffd[2J" in shown


def test_every_command_helps_with_an_example(capsys):
    for words in (
        ["deadletters", "list"],
        ["deadletters", "show"],
        ["deadletters", "replay"],
        ["analytics", "normalizer"],
    ):
        with pytest.raises(SystemExit):
            parser().parse_args([*words, "--help"])
        assert "example: hub" in capsys.readouterr().out
