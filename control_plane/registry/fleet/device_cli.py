"""`hub device` and `hub gateway`: register, list, show and assign."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from control_plane.registry.cli_words import Nouns, client, leaf, pairs, part, say, shown
from shared.errors import Permanent
from shared.printable import printable


def register(nouns: Nouns) -> None:
    """Add these commands."""
    _device_commands(nouns)
    _gateway_commands(nouns)


def _device_commands(nouns: Nouns) -> None:
    actions = nouns.actions("device", "register, list and show devices")
    add = _add_parser(actions, "device", "hub device add cellar-1 --serial SN-0001 --type thermometer")
    add.add_argument("--gateway", metavar="ID", help="the gateway that speaks for it; none: directly attached")
    add.set_defaults(run=_add, kind="device")
    lister = leaf(
        actions, "list", "list devices and gateways", "hub device list --label site=berlin --status active", _list
    )
    search_options(lister)
    show = leaf(actions, "show", "show one device", "hub device show cellar-1", _show)
    show.add_argument("id", metavar="ID", help="the device's or gateway's")
    assign = leaf(
        actions, "assign", "put a device behind a gateway", "hub device assign cellar-1 --gateway hall-3", _assign
    )
    assign.add_argument("id", metavar="ID", help="the device's")
    where = assign.add_mutually_exclusive_group(required=True)
    where.add_argument("--gateway", metavar="ID", help="the gateway that speaks for it from now on")
    where.add_argument("--direct", action="store_true", help="directly attached from now on")


def _gateway_commands(nouns: Nouns) -> None:
    actions = nouns.actions("gateway", "register, list and show gateways")
    add = _add_parser(actions, "gateway", "hub gateway add hall-3 --serial GW-17 --key-file hall-3.key")
    add.set_defaults(run=_add, kind="gateway", gateway=None)
    lister = leaf(actions, "list", "list gateways", "hub gateway list --status suspended", _list)
    search_options(lister, gateways=True)
    lister.set_defaults(kind="gateway", gateway=None)
    show = leaf(actions, "show", "show one gateway", "hub gateway show hall-3", _show)
    show.add_argument("id", metavar="ID", help="the gateway's")


def search_options(parser: argparse.ArgumentParser, *, gateways: bool = False) -> None:
    """What narrows a list, as the REST API's parameters of the same names do."""
    if not gateways:
        parser.add_argument("--gateway", metavar="ID", help="only those behind this gateway now")
        parser.add_argument("--kind", choices=["device", "gateway"], help="only these")
    statuses = ["pending", "provisioned", "active", "quarantined", "suspended", "retired"]
    parser.add_argument("--status", choices=statuses, help="only these")
    parser.add_argument("--type", help="only these")
    parser.add_argument("--group", metavar="NAME", help="only members of this group")
    parser.add_argument(
        "--label", action="append", default=[], metavar="NAME[=VALUE]", help="only with this label; may be repeated"
    )
    parser.add_argument(
        "--serial", metavar="PART", dest="q", help="only with this in the serial, 2 characters or more"
    )


def asked(args: argparse.Namespace) -> dict[str, Any]:
    """The search as query parameters."""
    return {
        "kind": args.kind,
        "gateway_id": args.gateway,
        "status": args.status,
        "type": args.type,
        "group": args.group,
        "label": args.label or None,
        "q": args.q,
    }


def _add_parser(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", noun: str, example: str
) -> argparse.ArgumentParser:
    parser = leaf(actions, "add", f"register a {noun}; its key is shown once", example, _add)
    parser.add_argument("id", metavar="ID", nargs="?", help="chosen by the hub if left out")
    parser.add_argument("--serial", required=True, help="the hardware's serial number")
    parser.add_argument("--type", help="such as thermometer", required=noun != "gateway", default="gateway")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="write the key there (0600) and do not show it")
    return parser


def _add(args: argparse.Namespace) -> int:
    body: dict[str, Any] = {"serial": args.serial, "type": args.type, "kind": args.kind}
    if args.id:
        body["id"] = args.id
    if args.gateway:
        body["gateway_id"] = args.gateway
    body["labels"] = pairs(args.label)
    if args.key_file is None:
        with client() as rest:
            device = rest.create("/v1/devices", body)
        say(args, device, _added(device, None))
        return 0
    with client() as rest:
        return _add_with_key_file(args, rest, body)


def _add_with_key_file(args: argparse.Namespace, rest: Any, body: Mapping[str, Any]) -> int:
    """The file is made first: where it cannot be, nothing is registered, and no key is shown to nobody."""
    path: Path = args.key_file
    handle = new_key_file(path)
    try:
        device = rest.create("/v1/devices", body)
    except BaseException:
        os.close(handle)
        path.unlink()
        raise
    try:
        _write_key(handle, device["api_key"])
    except OSError as error:
        # It exists nowhere else: better on the terminal than lost.
        sys.stderr.write(f"hub: the key could not be written to {path} ({error.strerror}); it is shown instead\n")
        path.unlink()
        say(args, device, _added(device, None))
        return 1
    del device["api_key"]
    say(args, device, _added(device, path))
    return 0


def _list(args: argparse.Namespace) -> int:
    with client() as rest:
        devices = list(rest.pages("/v1/devices", "devices", **asked(args)))
    lines = [f"{'id':<24}{'kind':<9}{'type':<20}{'status':<13}{'behind':<24}serial"] if devices else ["none"]
    lines += [
        f"{d['id']:<24}{d['kind']:<9}{d['type']:<20}{d['status']:<13}{d['gateway_id'] or '-':<24}{d['serial']}"
        for d in devices
    ]
    say(args, {"devices": devices}, "\n".join(map(printable, lines)))
    return 0


def _show(args: argparse.Namespace) -> int:
    with client() as rest:
        device = rest.get(f"/v1/devices/{part(args.id)}")
    say(args, device, shown(device))
    return 0


def _assign(args: argparse.Namespace) -> int:
    with client() as rest:
        device = rest.post(f"/v1/devices/{part(args.id)}:assign", {"gateway_id": args.gateway})
    say(args, device, shown(device))
    return 0


def new_key_file(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Permanent(f"{path} exists already", hint="name another file: a key is never overwritten") from error
    except OSError as error:
        raise Permanent(f"{path} cannot be written: {error.strerror}", hint="nothing was registered") from error


def _write_key(handle: int, key: str) -> None:
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())


def _added(device: Mapping[str, Any], key_file: Path | None) -> str:
    lines = [f"registered {device['kind']} {device['id']}"]
    if key_file is not None:
        return "\n".join([*lines, f"its key is in {key_file}"])
    key_id, _, secret = device["api_key"].partition(".")
    lines += [
        f"its key, shown this once: {device['api_key']}",
        f"MQTT: client id {device['id']}, user name {key_id}, password {secret}",
    ]
    return "\n".join(lines)
