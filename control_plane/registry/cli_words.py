"""What every noun's commands are made of: parsers, the way to the API, and how what was found is printed."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from shared.config import load
from shared.errors import Permanent
from shared.printable import printable


class UsageError(Permanent):
    """What was typed makes no sense."""

    exit_status = 2


class Nouns:
    """`hub NOUN ACTION`: each sub-room adds actions to the nouns it knows about."""

    def __init__(self, commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        self._commands = commands
        self._nouns: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}

    def actions(self, noun: str, words: str = "") -> "argparse._SubParsersAction[argparse.ArgumentParser]":
        """The noun's actions; `words` say what it is about when it is asked for the first time."""
        if noun not in self._nouns:
            parser = self._commands.add_parser(noun, help=words, description=words)
            self._nouns[noun] = parser.add_subparsers(metavar="ACTION", required=True)
        return self._nouns[noun]

    def command(
        self, name: str, words: str, example: str, run: Callable[[argparse.Namespace], int]
    ) -> argparse.ArgumentParser:
        """`hub NAME`, a command without actions."""
        return leaf(self._commands, name, words, example, run)


def leaf(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    words: str,
    example: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    """An action with its example, `--json` and what it runs."""
    parser = actions.add_parser(name, help=words, description=words, epilog=f"example: {example}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)
    return parser


def client() -> Any:
    """The REST API with the token of HUB_ADMIN_TOKEN_FILE; a context manager."""
    from control_plane.registry import rest_client  # noqa: PLC0415 - the services must not carry an HTTP client

    return rest_client.RestClient(load(rest_client.ClientConfig, os.environ))


def part(text: str) -> str:
    """One segment of a path: an argument must not reach another route."""
    if not text or any(character in text for character in "/?#%:") or text in (".", ".."):
        raise UsageError(f"{text!r} is no id")
    return text


def pairs(items: list[str]) -> dict[str, str]:
    """NAME=VALUE, repeated."""
    found = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise UsageError(f"{item!r} is not NAME=VALUE")
        found[name] = value
    return found


def seconds(text: str) -> int:
    """A span of time: a whole number and one of s, m, h, d, w."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isascii() or not number.isdigit() or int(number) == 0 or len(number) > 9:
        raise UsageError(f"{text!r} is no time such as 90s, 30m, 12h, 7d or 4w")
    return int(number) * _UNITS[unit]


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def rates(items: list[str]) -> dict[str, float]:
    """NAME=RATE, repeated."""
    try:
        return {name: float(value) for name, value in pairs(items).items()}
    except ValueError as error:
        raise UsageError(f"{error}: a rate is a number") from None


def shown(found: Mapping[str, Any]) -> str:
    """A document as lines of names and values."""
    return "\n".join(f"{name:<14}{_words(value)}" for name, value in found.items())


def _words(value: Any) -> str:
    return printable(
        value if isinstance(value, str) else "-" if value is None else json.dumps(value, ensure_ascii=False)
    )


def say(args: argparse.Namespace, found: Mapping[str, Any], text: str) -> None:
    """`text` for people, or with `--json` what was found as one object."""
    sys.stdout.write((json.dumps(found) if args.json else text) + "\n")
