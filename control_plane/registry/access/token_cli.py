"""`hub token`: make, list and revoke API tokens."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from control_plane.registry.cli_words import Nouns, client, leaf, part, say, seconds, shown
from control_plane.registry.secret_output import SecretFile
from shared.printable import printable


def register(nouns: Nouns) -> None:
    """Add these commands."""
    actions = nouns.actions("token", "make, list and revoke API tokens")
    create = leaf(
        actions,
        "create",
        "make a token; it is shown once",
        "hub token create dashboard --role viewer --scope devices:read --expires-in 90d --token-file dashboard.token",
        _create,
    )
    create.add_argument("name", metavar="NAME", help="for people: whose it is, what for")
    create.add_argument("--role", required=True, choices=["viewer", "operator", "admin"], help="what it may do")
    create.add_argument(
        "--scope", action="append", default=[], metavar="SCOPE", help="narrow it, such as devices or devices:read"
    )
    create.add_argument("--expires-in", metavar="TIME", help="such as 12h or 90d; left out: it has no end")
    create.add_argument(
        "--token-file", type=Path, metavar="FILE", help="write the token there (0600) and do not show it"
    )
    lister = leaf(actions, "list", "list tokens, with their last use", "hub token list", _list)
    lister.add_argument("--all", action="store_true", help="also those that expired or were revoked")
    revoke = leaf(actions, "revoke", "refuse a token from now on", "hub token revoke t-abcdefghijkm", _revoke)
    revoke.add_argument("id", metavar="ID", help="what stands before the dot")


def _create(args: argparse.Namespace) -> int:
    body: dict[str, Any] = {"name": args.name, "role": args.role, "scopes": args.scope}
    if args.expires_in is not None:
        body["expires_in_s"] = seconds(args.expires_in)
    with ExitStack() as held:
        file = held.enter_context(SecretFile(args.token_file)) if args.token_file else None
        rest = held.enter_context(client())
        made = rest.create("/v1/tokens", body)
        status = 0
        if file is not None:
            trouble = file.keep(made["token"])
            if trouble is None:
                del made["token"]
            else:  # it exists nowhere else: better on the terminal than lost
                sys.stderr.write(f"hub: {args.token_file} could not be written ({trouble}); the token is shown\n")
                status = 1
    lines = [f"made the {made['role']} token {made['id']}, {_until(made)}"]
    lines.append(f"shown this once: {made['token']}" if "token" in made else f"it is in {args.token_file}")
    say(args, made, "\n".join(lines))
    return status


def _list(args: argparse.Namespace) -> int:
    with client() as rest:
        found = list(rest.pages("/v1/tokens", "tokens", usable=None if args.all else "true"))
    lines = (
        [f"{'id':<16}{'role':<10}{'state':<9}{'last used':<22}{'ends':<22}{'scopes':<24}name"] if found else ["none"]
    )
    lines += [
        f"{t['id']:<16}{t['role']:<10}{t['state']:<9}{_moment(t['last_used_at']):<22}"
        f"{_moment(t['expires_at']):<22}{','.join(t['scopes']) or '-':<24}{t['name']}"
        for t in found
    ]
    say(args, {"tokens": found}, "\n".join(map(printable, lines)))
    return 0


def _revoke(args: argparse.Namespace) -> int:
    with client() as rest:
        found = rest.delete(f"/v1/tokens/{part(args.id)}")
    say(args, found, shown(found))
    return 0


def _until(token: dict[str, Any]) -> str:
    return f"good until {token['expires_at']}" if token["expires_at"] else "without an end"


def _moment(text: str | None) -> str:
    return f"{text[:19]}Z" if text else "-"
