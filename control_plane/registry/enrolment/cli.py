"""`hub gateway enroll-token` and its like: make, list and revoke enrolment tokens."""

import argparse
import re
from collections.abc import Mapping
from typing import Any

from control_plane.registry.cli_words import Nouns, UsageError, client, leaf, pairs, part, say
from shared.printable import printable

_DURATION = re.compile(r"^(\d+)([smhd])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def register(nouns: Nouns) -> None:
    """Add these commands."""
    actions = nouns.actions("gateway", "register, enrol, list and show gateways")
    make = leaf(
        actions,
        "enroll-token",
        "make a token by which a gateway enrols itself; it is shown once",
        "hub gateway enroll-token --expires 1h --label site=berlin",
        _make,
    )
    make.add_argument("--uses", type=int, default=1, metavar="N", help="how many gateways may enrol with it (1)")
    make.add_argument("--expires", default="1h", metavar="TIME", help="such as 30m, 12h or 7d (1h)")
    make.add_argument("--label", action="append", default=[], metavar="NAME=VALUE", help="given to each; repeat it")
    make.add_argument("--type", default="gateway", help="the type of the gateways (gateway)")
    make.add_argument("--replaces", metavar="GATEWAY", help="the gateway whose devices the new hardware takes over")
    leaf(actions, "enroll-tokens", "list enrolment tokens", "hub gateway enroll-tokens", _list)
    revoke = leaf(
        actions,
        "enroll-revoke",
        "let nobody else enrol with a token",
        "hub gateway enroll-revoke e-abcdefghijkm",
        _revoke,
    )
    revoke.add_argument("id", metavar="ID", help="the token's, e-...; it is no secret")


def seconds(text: str) -> int:
    """`30m` and the like. Raises UsageError."""
    found = _DURATION.match(text)
    if found is None:
        raise UsageError(f"{text!r} is no time such as 90s, 30m, 12h or 7d")
    return int(found[1]) * _SECONDS[found[2]]


def _make(args: argparse.Namespace) -> int:
    body: dict[str, Any] = {
        "uses": args.uses,
        "expires_s": seconds(args.expires),
        "labels": pairs(args.label),
        "type": args.type,
    }
    if args.replaces:
        body["replaces"] = args.replaces
    with client() as rest:
        made = rest.create("/v1/enrolment-tokens", body)
    say(args, made, _made(made))
    return 0


def _made(made: Mapping[str, Any]) -> str:
    return "\n".join(
        [
            f"enrolment token {made['id']}, for {made['uses']} gateway(s), until {made['expires_at']}",
            f"the token, shown this once: {made['token']}",
            "on the gateway: edge-agent enroll --hub https://HUB:PORT --run, and give it the token when it asks",
        ]
    )


def _list(args: argparse.Namespace) -> int:
    with client() as rest:
        tokens = list(rest.pages("/v1/enrolment-tokens", "tokens"))
    lines = [f"{'id':<16}{'used':<10}{'expires':<34}{'state':<10}replaces"] if tokens else ["none"]
    lines += [
        f"{t['id']:<16}{t['used']}/{t['uses']!s:<8}{t['expires_at']:<34}{_state(t):<10}{t['replaces'] or '-'}"
        for t in tokens
    ]
    say(args, {"tokens": tokens}, "\n".join(map(printable, lines)))
    return 0


def _state(token: Mapping[str, Any]) -> str:
    if token["revoked_at"]:
        return "revoked"
    return "open" if token["used"] < token["uses"] else "used up"


def _revoke(args: argparse.Namespace) -> int:
    with client() as rest:
        rest.delete(f"/v1/enrolment-tokens/{part(args.id)}")
    say(args, {"id": args.id, "revoked": True}, f"revoked {args.id}")
    return 0
