"""`hub ca`: the CA's files, and servers' certificates of it."""

import argparse
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from control_plane.db.secret_files import create_once
from control_plane.registry.cli_words import Nouns, leaf, say
from shared.config import load, setting
from shared.errors import Permanent


@dataclass(frozen=True, slots=True)
class CaConfig:
    """What `hub ca` reads."""

    data_dir: Path = setting("HUB_DATA_DIR", "the hub's own directory")


def register(nouns: Nouns) -> None:
    """Add `hub ca`."""
    actions = nouns.actions("ca", "the hub's certificate authority")
    words = "make the CA in HUB_DATA_DIR, if there is none"
    init = leaf(actions, "init", words, "hub ca init --name example.org", _init)
    init.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="DNS",
        help="for which names it may vouch, their subdomains too; again for more (localhost always)",
    )
    init.add_argument(
        "--network", action="append", default=[], metavar="CIDR", help="and for which addresses (loopback always)"
    )
    words = "make a server's certificate and key"
    server = leaf(actions, "server", words, "hub ca server hub.example.org --out /etc/hub/tls", _server)
    server.add_argument("name", nargs="+", help="its DNS names and addresses")
    server.add_argument("--out", type=Path, required=True, metavar="DIR", help="where server.crt and server.key go")


def _init(args: argparse.Namespace) -> int:
    from control_plane.registry.pki.ca import Names  # noqa: PLC0415 - cryptography is loaded only where it works
    from control_plane.registry.pki.ca_files import CaFiles, ensure  # noqa: PLC0415

    names = Names()
    names = Names((*names.dns, *args.name), (*names.networks, *args.network))
    files = CaFiles.of(load(CaConfig, os.environ).data_dir)
    try:
        authority, made = ensure(files, datetime.now(UTC), names)
    except ValueError as error:
        raise Permanent(f"--name or --network: {error}") from None
    found = {"made": made, "certificate": str(files.certificate), "sha256": authority.fingerprint}
    say(args, found, f"{'made' if made else 'there is already'} {files.certificate}, SHA-256 {authority.fingerprint}")
    return 0


def _server(args: argparse.Namespace) -> int:
    from control_plane.registry.pki import ca_files  # noqa: PLC0415

    authority = ca_files.load(ca_files.CaFiles.of(load(CaConfig, os.environ).data_dir))
    pair = authority.issue_server(args.name, datetime.now(UTC))
    certificate, key = args.out / "server.crt", args.out / "server.key"
    for path, text in ((key, str(pair.key)), (certificate, pair.certificate)):
        if not create_once(path, text):
            raise Permanent(f"{path} exists", hint="move it away first: a running server may read it")
    say(args, {"certificate": str(certificate), "key": str(key)}, f"wrote {certificate} and {key}")
    return 0
