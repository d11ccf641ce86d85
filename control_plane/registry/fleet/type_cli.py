"""`hub type`: what is expected of the metrics of a type's devices."""

import argparse
from typing import Any

from control_plane.registry.cli_words import Nouns, UsageError, client, leaf, pairs, part, rates, say, shown


def register(nouns: Nouns) -> None:
    """Add these commands."""
    actions = nouns.actions("type", "say what is expected of a device type's metrics")
    put = leaf(
        actions, "set", "replace what is expected", "hub type set thermometer --metric temperature=-20..60", _set
    )
    put.add_argument("name", metavar="TYPE", help="the type's name, as devices bear it")
    put.add_argument(
        "--metric", action="append", default=[], metavar="NAME=MIN..MAX", help="either bound may be left out"
    )
    put.add_argument(
        "--limit", action="append", default=[], metavar="NAME=RATE",
        help="for its devices: messages_per_s, bytes_per_s, readings_per_s",
    )  # fmt: skip
    leaf(actions, "list", "list types", "hub type list", _list_types)
    show = leaf(actions, "show", "show one type", "hub type show thermometer", _show_type)
    show.add_argument("name", metavar="TYPE", help="the type's name")


def _set(args: argparse.Namespace) -> int:
    metrics = {name: _bounds(bounds) for name, bounds in pairs(args.metric).items()}
    body: dict[str, Any] = {"metrics": metrics}
    if args.limit:
        body["limits"] = rates(args.limit)
    with client() as rest:
        found = rest.put(f"/v1/types/{part(args.name)}", body)
    say(args, found, shown(found))
    return 0


def _list_types(args: argparse.Namespace) -> int:
    with client() as rest:
        types = list(rest.pages("/v1/types", "types"))
    say(args, {"types": types}, "\n".join(found["name"] for found in types) or "none")
    return 0


def _show_type(args: argparse.Namespace) -> int:
    with client() as rest:
        found = rest.get(f"/v1/types/{part(args.name)}")
    say(args, found, shown(found))
    return 0


def _bounds(text: str) -> dict[str, float]:
    low, dots, high = text.partition("..")
    if not dots:
        raise UsageError(f"{text!r} is not MIN..MAX")
    try:
        return {name: float(bound) for name, bound in (("min", low), ("max", high)) if bound}
    except ValueError:
        raise UsageError(f"{text!r} is not MIN..MAX") from None
