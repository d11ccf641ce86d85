"""`hub group`: groups of devices, listed or by query."""

import argparse
import json
from typing import Any

from control_plane.registry.cli_words import Nouns, UsageError, client, leaf, part, say, shown
from shared.printable import printable

_AT_ONCE = 500


def register(nouns: Nouns) -> None:
    """Add these commands."""
    actions = nouns.actions("group", "groups of devices, listed or by query")
    create = leaf(
        actions, "create", "make a group", "hub group create berlin --label site=berlin --type thermometer", _create
    )
    create.add_argument("name", metavar="NAME", help="the group's")
    create.add_argument("--description", default="", help="what it is for")
    create.add_argument("--label", action="append", default=[], metavar="NAME[=VALUE]", help="may be repeated")
    create.add_argument("--type", help="only devices of this type")
    create.add_argument("--kind", choices=["device", "gateway"], help="only these")
    leaf(actions, "list", "list groups", "hub group list", _list)
    for name, words, run in (
        ("show", "show one group", _show),
        ("members", "list a group's devices", _members),
        ("delete", "delete a group; its devices stay", _delete),
    ):
        leaf(actions, name, words, f"hub group {name} canaries", run).add_argument(
            "name", metavar="NAME", help="the group's"
        )
    for name, words in (("add", "make devices members of a listed group"), ("remove", "take devices out of it")):
        change = leaf(actions, name, words, f"hub group {name} canaries cellar-1 cellar-2", _change)
        change.add_argument("name", metavar="NAME", help="the group's")
        change.add_argument("ids", metavar="ID", nargs="+", help="the devices'")
        change.set_defaults(change=name)


def _create(args: argparse.Namespace) -> int:
    query = {"labels": args.label, "type": args.type, "kind": args.kind}
    said = {name: value for name, value in query.items() if value}
    body: dict[str, Any] = {"name": args.name, "description": args.description}
    with client() as rest:
        found = rest.post("/v1/groups", body | ({"query": said} if said else {}))
    say(args, found, shown(found))
    return 0


def _list(args: argparse.Namespace) -> int:
    with client() as rest:
        groups = list(rest.pages("/v1/groups", "groups"))
    lines = [
        f"{g['name']:<24}{json.dumps(g['query']) if g['query'] else 'listed':<48}{g['description']}" for g in groups
    ]
    say(args, {"groups": groups}, "\n".join(map(printable, lines)) or "none")
    return 0


def _show(args: argparse.Namespace) -> int:
    with client() as rest:
        found = rest.get(f"/v1/groups/{part(args.name)}")
    say(args, found, shown(found))
    return 0


def _members(args: argparse.Namespace) -> int:
    with client() as rest:
        devices = list(rest.pages(f"/v1/groups/{part(args.name)}/members", "devices"))
    say(args, {"devices": devices}, "\n".join(device["id"] for device in devices) or "none")
    return 0


def _change(args: argparse.Namespace) -> int:
    if len(args.ids) > _AT_ONCE:
        raise UsageError(f"at most {_AT_ONCE} devices at once")
    with client() as rest:
        found = rest.post(f"/v1/groups/{part(args.name)}/members:{args.change}", {"devices": args.ids})
    text = f"{found['changed']} changed" + "".join(f"\n{name}: no such device" for name in found["unknown"])
    say(args, found, printable(text) if "\n" not in text else text)
    return 1 if found["unknown"] else 0


def _delete(args: argparse.Namespace) -> int:
    path = f"/v1/groups/{part(args.name)}"
    with client() as rest:
        found, etag = rest.tagged(path)
        rest.delete(path, etag)
    say(args, found, f"deleted {args.name}")
    return 0
