"""`hub api`, the broker's commands, and the sub-rooms' nouns."""

import argparse
import os
from collections.abc import Callable

from control_plane.registry import broker_cli, policy_cli
from control_plane.registry.access import audit_cli, token_cli
from control_plane.registry.cli_words import Nouns
from control_plane.registry.credentials import cli as credential_cli
from control_plane.registry.enrolment import cli as enrolment_cli
from control_plane.registry.fleet import change_cli, device_cli, group_cli, privacy_cli, transfer_cli, type_cli
from control_plane.registry.pki import cli as ca_cli
from control_plane.registry.quarantine import cli as quarantine_cli

NOUNS: tuple[Callable[[Nouns], None], ...] = (
    device_cli.register,
    type_cli.register,
    change_cli.register,
    transfer_cli.register,
    group_cli.register,
    privacy_cli.register,
    policy_cli.register,
    quarantine_cli.register,
    credential_cli.register,
    enrolment_cli.register,
    token_cli.register,
    audit_cli.register,
    ca_cli.register,
)
"""The sub-rooms' commands."""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this room's commands; each sets `run(args) -> int`."""
    parser = commands.add_parser("api", help="run the REST API and the registry", epilog="example: hub api")
    parser.set_defaults(run=_api)
    nouns = Nouns(commands)
    for add in NOUNS:
        add(nouns)
    broker_cli.register(commands)


def _api(args: argparse.Namespace) -> int:
    from control_plane.registry import service  # noqa: PLC0415 - the web framework is loaded only where it serves

    del args
    return service.main(os.environ)
