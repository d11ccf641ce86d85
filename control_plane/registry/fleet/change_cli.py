"""`hub device label|patch|approve|suspend|resume|retire`, and the same of gateways."""

import argparse
from collections.abc import Mapping
from typing import Any

from control_plane.registry.cli_words import Nouns, UsageError, client, leaf, pairs, part, rates, say, shown

_MOVES = {
    "approve": "let a device that waits be heard",
    "suspend": "cut a device off until it is resumed",
    "resume": "let a suspended device be heard again",
    "retire": "end a device's life for good",
}


def register(nouns: Nouns) -> None:
    """Add these commands."""
    for noun in ("device", "gateway"):
        actions = nouns.actions(noun)
        for name, words in _MOVES.items():
            move = leaf(actions, name, words.replace("device", noun), f"hub {noun} {name} hall-3", _move)
            move.add_argument("ids", metavar="ID", nargs="+", help=f"the {noun}'s")
            move.add_argument("--reason", help="kept in the audit log for ever; name no person")
            move.set_defaults(move=name)
        label = leaf(
            actions, "label", "set or remove labels", f"hub {noun} label hall-3 site=berlin old-name-", _label
        )
        label.add_argument("id", metavar="ID", help=f"the {noun}'s")
        label.add_argument("labels", metavar="NAME=VALUE|NAME-", nargs="+", help="NAME- removes a label")
        patch = leaf(
            actions, "patch", "change serial, location or limits", f"hub {noun} patch hall-3 --place 'hall 3'", _patch
        )
        patch.add_argument("id", metavar="ID", help=f"the {noun}'s")
        patch.add_argument("--serial", help="the hardware's serial number")
        patch.add_argument("--place", help="where it stands, in words")
        patch.add_argument("--lat", type=float, help="degrees north")
        patch.add_argument("--lon", type=float, help="degrees east")
        patch.add_argument("--limit", action="append", default=[], metavar="NAME=RATE", help="may be repeated")
        patch.add_argument("--no-location", action="store_true", help="forget where it stands")
        patch.add_argument("--no-limits", action="store_true", help="its type's limits again, or the default")


def _move(args: argparse.Namespace) -> int:
    body = {"reason": args.reason} if args.reason else {}
    names = [part(name) for name in args.ids]
    with client() as rest:
        moved = [rest.post(f"/v1/devices/{name}:{args.move}", body) for name in names]
    text = "\n".join(f"{found['id']} is {found['status']}" for found in moved)
    say(args, moved[0] if len(moved) == 1 else {"devices": moved}, text)
    return 0


def _label(args: argparse.Namespace) -> int:
    removed = {item[:-1]: None for item in args.labels if item.endswith("-") and "=" not in item}
    wanted: dict[str, str | None] = {**pairs([item for item in args.labels if item[:-1] not in removed]), **removed}
    return _change(args, {"labels": wanted})


def _patch(args: argparse.Namespace) -> int:
    body: dict[str, Any] = {"serial": args.serial} if args.serial is not None else {}
    location = {name: getattr(args, name) for name in ("place", "lat", "lon") if getattr(args, name) is not None}
    if (location and args.no_location) or (args.limit and args.no_limits):
        raise UsageError("what is set cannot be removed at once")
    if location or args.no_location:
        body["location"] = location or None
    if args.limit or args.no_limits:
        body["limits"] = rates(args.limit) or None
    if not body:
        raise UsageError("say what to change")
    return _change(args, body)


def _change(args: argparse.Namespace, body: Mapping[str, Any]) -> int:
    """A merge of named fields, so whoever was quicker with others loses nothing: any version will do."""
    with client() as rest:
        found = rest.patch(f"/v1/devices/{part(args.id)}", body, "*")
    say(args, found, shown(found))
    return 0
