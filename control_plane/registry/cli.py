"""`hub api`, `hub broker-file`, and the sub-rooms' nouns."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from control_plane.registry import policy_cli
from control_plane.registry.access import token_cli
from control_plane.registry.cli_words import Nouns, say
from control_plane.registry.enrolment import cli as enrolment_cli
from control_plane.registry.fleet import device_cli, type_cli

NOUNS: tuple[Callable[[Nouns], None], ...] = (
    device_cli.register,
    type_cli.register,
    policy_cli.register,
    enrolment_cli.register,
    token_cli.register,
)
"""The sub-rooms' commands."""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this room's commands; each sets `run(args) -> int`."""
    parser = commands.add_parser("api", help="run the REST API and the registry", epilog="example: hub api")
    parser.set_defaults(run=_api)
    nouns = Nouns(commands)
    for add in NOUNS:
        add(nouns)
    parser = commands.add_parser(
        "broker-file",
        help="write the broker's records from the database, to bring back an empty broker",
        description="Write Mosquitto's dynamic-security file from the hashes in the database and the services' "
        "secrets. Use it while the broker is down: a running one would overwrite it.",
        epilog="example: stop the broker; hub broker-file --out /var/lib/mosquitto/dynamic-security.json; start it",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write (mode 0600)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_broker_file)


def _api(args: argparse.Namespace) -> int:
    from control_plane.registry import service  # noqa: PLC0415 - the web framework is loaded only where it serves

    del args
    return service.main(os.environ)


def _broker_file(args: argparse.Namespace) -> int:
    from control_plane.registry import broker_file  # noqa: PLC0415 - reaches the database, which others do not

    written = broker_file.main(os.environ, args.out)
    say(args, {"file": str(args.out), "records": written}, f"wrote {written} records to {args.out}")
    return 0
