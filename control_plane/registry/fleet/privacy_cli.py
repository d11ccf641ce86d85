"""`hub device whois` and `hub device forget`."""

import argparse

from control_plane.registry.cli_words import Nouns, client, leaf, part, say


def register(nouns: Nouns) -> None:
    """Add these commands."""
    actions = nouns.actions("device")
    whois = leaf(
        actions, "whois", "which device a pseudonym of the logs is", "hub device whois p-3kq2m7xzab4cdefg", _whois
    )
    whois.add_argument("pseudonym", metavar="PSEUDONYM", help="as logs and metrics name it; the question is audited")
    forget = leaf(
        actions, "forget", "erase what is known of a retired device", "hub device forget cellar-1 --force", _forget
    )
    forget.add_argument("id", metavar="ID", help="the device's; it stays taken")
    forget.add_argument("--force", action="store_true", help="retire it first")


def _whois(args: argparse.Namespace) -> int:
    with client() as rest:
        found = rest.get(f"/v1/pseudonyms/{part(args.pseudonym)}")
    say(args, found, str(found["device_id"]))
    return 0


def _forget(args: argparse.Namespace) -> int:
    with client() as rest:
        found = rest.post(f"/v1/devices/{part(args.id)}:forget", {"force": args.force})
    erased = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in found["erased"].items() if count)
    lines = [f"forgot {args.id}: {erased or 'nothing but its own values'}", "not reached:"]
    say(args, found, "\n".join([*lines, *(f"- {item}" for item in found["not_reached"])]))
    return 0
