"""`hub device quarantine|release` and `hub quarantine list`."""

import argparse
import json
from typing import Any

from control_plane.registry.cli_words import Nouns, client, leaf, part, say
from shared.printable import printable


def register(nouns: Nouns) -> None:
    """Add these commands."""
    device = nouns.actions("device", "register, list and show devices")
    enter = leaf(
        device,
        "quarantine",
        "cut a device or gateway off, with a reason",
        'hub device quarantine cellar-1 --reason "floods since noon" --for 3600',
        _quarantine,
    )
    enter.add_argument("id", metavar="ID", help="the device's or gateway's")
    enter.add_argument("--reason", required=True, help="for the audit log")
    enter.add_argument("--for", dest="for_s", type=int, metavar="SECONDS", help="left out: until it is released")
    release = leaf(device, "release", "let a quarantined device speak again", "hub device release cellar-1", _release)
    release.add_argument("id", metavar="ID", help="the device's or gateway's")
    release.add_argument("--reason", help="for the audit log")
    quarantine = nouns.actions("quarantine", "see who is cut off, and why")
    lister = leaf(quarantine, "list", "list quarantines with their evidence", "hub quarantine list --ended", _list)
    lister.add_argument("--ended", action="store_true", help="those that are over as well")
    lister.add_argument("--device", metavar="ID", help="only this one's")


def _quarantine(args: argparse.Namespace) -> int:
    with client() as rest:
        body = {"reason": args.reason, "for_s": args.for_s}
        found = rest.post(f"/v1/devices/{part(args.id)}:quarantine", body)
    say(args, found, f"quarantined {printable(found['device_id'])} until {found['until'] or 'it is released'}")
    return 0


def _release(args: argparse.Namespace) -> int:
    with client() as rest:
        found = rest.post(f"/v1/devices/{part(args.id)}:release", {"reason": args.reason})
    say(args, found, f"released {printable(found['device_id'])}, which is {found['status']} now")
    return 0


def _list(args: argparse.Namespace) -> int:
    with client() as rest:
        found = list(
            rest.pages("/v1/quarantines", "quarantines", ended="true" if args.ended else None, device_id=args.device)
        )
    say(args, {"quarantines": found}, "\n".join(map(_line, found)) or "none")
    return 0


def _line(found: dict[str, Any]) -> str:
    end = f"over since {found['released_at']}" if found["released_at"] else f"until {found['until'] or 'released'}"
    evidence = f" {json.dumps(found['evidence'])}" if found["evidence"] else ""
    return printable(f"{found['at']}  {found['device_id']}  {found['by']}  {end}  {found['reason']}{evidence}")
