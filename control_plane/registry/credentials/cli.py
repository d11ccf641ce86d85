"""`hub device rotate|keys|revoke`."""

import argparse
import os
from pathlib import Path
from typing import Any

from control_plane.registry.cli_words import Nouns, UsageError, client, leaf, part, say
from shared.errors import Permanent
from shared.printable import printable


def register(nouns: Nouns) -> None:
    """Add these commands."""
    actions = nouns.actions("device")
    rotate = leaf(
        actions, "rotate", "replace a device's key; the new one is shown once",
        "hub device rotate cellar-1 --overlap-s 3600 --key-file cellar-1.key", _rotate,
    )  # fmt: skip
    rotate.add_argument("id", metavar="ID", help="the device's or gateway's")
    rotate.add_argument(
        "--overlap-s", type=float, metavar="S", help="how long the old keys live on (default: the policy's, a day)"
    )
    rotate.add_argument("--key-file", type=Path, metavar="FILE", help="write the key there (0600), do not show it")
    keys = leaf(
        actions, "keys", "show a device's keys and their last use, or end one", "hub device keys cellar-1", _keys
    )
    keys.add_argument("id", metavar="ID", nargs="?", help="the device's or gateway's")
    keys.add_argument("--overdue", action="store_true", help="those of all devices that nobody replaced in time")
    keys.add_argument("--end", metavar="KEY", help="end this key now")
    keys.add_argument("--force", action="store_true", help="even if it is the last one")
    revoke = leaf(
        actions, "revoke", "cut a stolen device off for good",
        "hub device revoke cellar-1 --reason 'stolen from hall 3'", _revoke,
    )  # fmt: skip
    revoke.add_argument("id", metavar="ID", help="the device's or gateway's")
    revoke.add_argument("--reason", required=True, help="for the audit log")


def _rotate(args: argparse.Namespace) -> int:
    device = part(args.id)
    body: dict[str, Any] = {} if args.overlap_s is None else {"overlap_s": args.overlap_s}
    path: Path | None = args.key_file
    handle = _new_file(path) if path is not None else None
    try:
        with client() as rest:
            issued = rest.create(f"/v1/devices/{device}/credentials:rotate", body)
    except BaseException:
        if path is not None and handle is not None:
            os.close(handle)
            path.unlink()
        raise
    if handle is not None:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(issued["api_key"] + "\n")
            file.flush()
            os.fsync(file.fileno())
        del issued["api_key"]
    lines = [f"the key of {device} is {issued['key_id']} now"]
    lines.append(f"it is in {path}" if path else f"shown this once: {issued['api_key']}")
    lines += [f"{key} ends at {at}" for key, at in issued["ending"].items()]
    say(args, issued, "\n".join(lines))
    return 0


def _keys(args: argparse.Namespace) -> int:
    if args.overdue == (args.id is not None):
        raise UsageError("name a device, or ask for --overdue")
    with client() as rest:
        if args.overdue:
            found = rest.get("/v1/credentials/overdue")
            lines = [f"{key['device_id']:<24}{_key_line(key)}" for key in found["keys"]]
            lines.append(f"{found['total']} in all")
        elif args.end:
            key, force = part_of_key(args.end), "true" if args.force else "false"
            found = rest.delete(f"/v1/devices/{part(args.id)}/credentials/{key}?force={force}")
            lines = [_closed(found, f"{args.end} is ended")]
        else:
            found = rest.get(f"/v1/devices/{part(args.id)}/credentials")
            lines = [
                _key_line(key) + (f"  ends {key['not_after']}" if key["not_after"] else "") for key in found["keys"]
            ] or ["none"]
    say(args, found, "\n".join(map(printable, lines)))
    return 0


def _revoke(args: argparse.Namespace) -> int:
    with client() as rest:
        found = rest.post(f"/v1/devices/{part(args.id)}:revoke", {"reason": args.reason})
    say(args, found, _closed(found, f"{found['id']} is cut off for good"))
    return 0


def part_of_key(text: str) -> str:
    """A key's id as one segment of a path: it has a colon, which no other id has."""
    prefix, colon, rest = text.partition(":")
    if prefix != "k" or not colon:
        raise UsageError(f"{text!r} is no key's id")
    return f"k:{part(rest)}"


def _key_line(key: dict[str, Any]) -> str:
    return f"{key['key_id']:<16}made {key['created_at']}  last used {key['last_used_at'] or 'never'}"


def _closed(found: dict[str, Any], words: str) -> str:
    if found["closed"]:
        return words + "; the broker has closed it"
    return words + "; the broker is away and closes it when it is back"


def _new_file(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Permanent(f"{path} exists already", hint="name another file: a key is never overwritten") from error
    except OSError as error:
        raise Permanent(f"{path} cannot be written: {error.strerror}", hint="nothing was rotated") from error
