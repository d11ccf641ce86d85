"""`hub broker-rebuild` and `hub broker-file`: bring back what the broker lost."""

import argparse
import os
from pathlib import Path

from control_plane.registry.cli_words import UsageError, client, say

_WORK_S = 120.0


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add these commands."""
    parser = commands.add_parser(
        "broker-rebuild",
        help="restart the broker once with all records from the database",
        description="Write all records of the broker from the hashes in the database and restart it once, announced. "
        "Every connection is closed for a moment. The hub must have been told how (docs/broker.md).",
        epilog="example: hub broker-rebuild --announce 60",
    )
    parser.add_argument(
        "--announce",
        type=float,
        metavar="S",
        help="seconds until the restart; default: the policy's",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_rebuild)
    parser = commands.add_parser(
        "broker-file",
        help="write the broker's records from the database, to bring back an empty broker by hand",
        description="Write Mosquitto's dynamic-security file from the hashes in the database and the services' "
        "secrets. Use it while the broker is down: a running one would overwrite it.",
        epilog="example: stop the broker; hub broker-file --out /var/lib/mosquitto/dynamic-security.json; start it",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write (mode 0600)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_file)


def _rebuild(args: argparse.Namespace) -> int:
    if args.announce is not None and not 0 <= args.announce <= 600:
        raise UsageError("--announce is between 0 and 600")
    body = {} if args.announce is None else {"announce_s": args.announce}
    with client() as rest:
        found = rest.post("/v1/broker:rebuild", body, within_s=(args.announce or 600.0) + _WORK_S)
    say(args, found, f"the broker holds {found['records']} records after {found['restarts']} restart(s)")
    return 0


def _file(args: argparse.Namespace) -> int:
    from control_plane.registry import broker_file  # noqa: PLC0415 - reaches the database, which others do not

    written = broker_file.main(os.environ, args.out)
    say(args, {"file": str(args.out), "records": written}, f"wrote {written} records to {args.out}")
    return 0
