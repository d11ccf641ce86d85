"""`hub migrate`."""

import argparse
import asyncio
import dataclasses
import json
import logging
import os
import sys

from control_plane.db.setup import Done, SetupConfig, set_up
from shared.config import load


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this room's command."""
    parser = commands.add_parser(
        "migrate",
        help="bring schema, topics, admin token and pseudonym key into place",
        description="Bring the database schema, Kafka's topics, the first admin token and the pseudonym key into "
        "place. Running it again changes nothing.",
        epilog="example: hub migrate --wait 60",
    )
    parser.add_argument("--wait", type=float, default=30.0, metavar="S", help="seconds to wait for servers (30)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_migrate)


def _migrate(args: argparse.Namespace) -> int:
    config = load(SetupConfig, os.environ)
    # What is waited for, and what failed, we say ourselves, once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    done = asyncio.run(set_up(config, wait_s=args.wait, say=lambda text: print(text, file=sys.stderr, flush=True)))
    if args.json:
        print(json.dumps(dataclasses.asdict(done)))
    else:
        print(_as_text(config, done))
    return 0


def _as_text(config: SetupConfig, done: Done) -> str:
    lines = [f"applied {name}" for name in done.migrations]
    lines += [f"created topic {name}" for name in done.topics.created]
    lines += [f"changed topic {change}" for change in done.topics.changed]
    lines += [f"left as it is: {fact} (partitions are never changed in place)" for fact in done.topics.left]
    if done.admin_token_made:
        lines.append(f"wrote the first admin token to {config.admin_token_file}")
    if done.pseudonym_key_made:
        lines.append("wrote the pseudonym key")
    return "\n".join(lines or ["nothing to do"])
