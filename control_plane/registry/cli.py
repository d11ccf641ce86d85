"""`hub api`, `hub device`, `hub gateway`, `hub type`, `hub broker-file`."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shared.config import load
from shared.errors import Permanent
from shared.printable import printable


class UsageError(Permanent):
    """What was typed makes no sense."""

    exit_status = 2


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this room's commands; each sets `run(args) -> int`."""
    parser = commands.add_parser("api", help="run the REST API and the registry", epilog="example: hub api")
    parser.set_defaults(run=_api)
    _device_commands(commands)
    _gateway_commands(commands)
    _type_commands(commands)
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


def _device_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    actions = _actions(commands, "device", "register, list and show devices")
    add = _add_parser(actions, "device", "hub device add cellar-1 --serial SN-0001 --type thermometer")
    add.add_argument("--gateway", metavar="ID", help="the gateway that speaks for it; none: directly attached")
    add.set_defaults(run=_add, kind="device")
    lister = _leaf(actions, "list", "list devices and gateways", "hub device list --gateway hall-3", _list)
    lister.add_argument("--gateway", metavar="ID", help="only those behind this gateway now")
    lister.add_argument("--kind", choices=["device", "gateway"], help="only these")
    show = _leaf(actions, "show", "show one device", "hub device show cellar-1", _show)
    show.add_argument("id", metavar="ID", help="the device's or gateway's")
    assign = _leaf(
        actions, "assign", "put a device behind a gateway", "hub device assign cellar-1 --gateway hall-3", _assign
    )
    assign.add_argument("id", metavar="ID", help="the device's")
    where = assign.add_mutually_exclusive_group(required=True)
    where.add_argument("--gateway", metavar="ID", help="the gateway that speaks for it from now on")
    where.add_argument("--direct", action="store_true", help="directly attached from now on")


def _gateway_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    actions = _actions(commands, "gateway", "register, list and show gateways")
    add = _add_parser(actions, "gateway", "hub gateway add hall-3 --serial GW-17 --key-file hall-3.key")
    add.set_defaults(run=_add, kind="gateway", gateway=None)
    _leaf(actions, "list", "list gateways", "hub gateway list", _list).set_defaults(kind="gateway", gateway=None)
    show = _leaf(actions, "show", "show one gateway", "hub gateway show hall-3", _show)
    show.add_argument("id", metavar="ID", help="the gateway's")


def _type_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    actions = _actions(commands, "type", "say what is expected of a device type's metrics")
    put = _leaf(
        actions, "set", "replace what is expected", "hub type set thermometer --metric temperature=-20..60", _set
    )
    put.add_argument("name", metavar="TYPE", help="the type's name, as devices bear it")
    put.add_argument(
        "--metric", action="append", default=[], metavar="NAME=MIN..MAX", help="either bound may be left out"
    )
    _leaf(actions, "list", "list types", "hub type list", _list_types)
    show = _leaf(actions, "show", "show one type", "hub type show thermometer", _show_type)
    show.add_argument("name", metavar="TYPE", help="the type's name")


def _actions(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, words: str
) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    return commands.add_parser(name, help=words, description=words).add_subparsers(metavar="ACTION", required=True)


def _leaf(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    words: str,
    example: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=words, description=words, epilog=f"example: {example}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)
    return parser


def _add_parser(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", noun: str, example: str
) -> argparse.ArgumentParser:
    parser = _leaf(actions, "add", f"register a {noun}; its key is shown once", example, _add)
    parser.add_argument("id", metavar="ID", nargs="?", help="chosen by the hub if left out")
    parser.add_argument("--serial", required=True, help="the hardware's serial number")
    parser.add_argument("--type", help="such as thermometer", required=noun != "gateway", default="gateway")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="write the key there (0600) and do not show it")
    return parser


def _api(args: argparse.Namespace) -> int:
    from control_plane.registry import service  # noqa: PLC0415 - the web framework is loaded only where it serves

    del args
    return service.main(os.environ)


def _client() -> Any:
    from control_plane.registry import rest_client  # noqa: PLC0415 - the services must not carry an HTTP client

    return rest_client.RestClient(load(rest_client.ClientConfig, os.environ))


def _add(args: argparse.Namespace) -> int:
    body: dict[str, Any] = {"serial": args.serial, "type": args.type, "kind": args.kind}
    if args.id:
        body["id"] = args.id
    if args.gateway:
        body["gateway_id"] = args.gateway
    body["labels"] = _pairs(args.label)
    if args.key_file is None:
        with _client() as rest:
            device = rest.create("/v1/devices", body)
        _print(args, device, _added(device, None))
        return 0
    with _client() as rest:
        return _add_with_key_file(args, rest, body)


def _add_with_key_file(args: argparse.Namespace, rest: Any, body: Mapping[str, Any]) -> int:
    """The file is made first: where it cannot be, nothing is registered, and no key is shown to nobody."""
    path: Path = args.key_file
    handle = _new_key_file(path)
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
        _print(args, device, _added(device, None))
        return 1
    del device["api_key"]
    _print(args, device, _added(device, path))
    return 0


def _list(args: argparse.Namespace) -> int:
    with _client() as rest:
        devices = list(rest.pages("/v1/devices", "devices", kind=args.kind, gateway_id=args.gateway))
    lines = [f"{'id':<24}{'kind':<9}{'type':<20}{'status':<13}{'behind':<24}serial"] if devices else ["none"]
    lines += [
        f"{d['id']:<24}{d['kind']:<9}{d['type']:<20}{d['status']:<13}{d['gateway_id'] or '-':<24}{d['serial']}"
        for d in devices
    ]
    _print(args, {"devices": devices}, "\n".join(map(printable, lines)))
    return 0


def _show(args: argparse.Namespace) -> int:
    with _client() as rest:
        device = rest.get(f"/v1/devices/{_part(args.id)}")
    _print(args, device, _shown(device))
    return 0


def _assign(args: argparse.Namespace) -> int:
    with _client() as rest:
        device = rest.post(f"/v1/devices/{_part(args.id)}:assign", {"gateway_id": args.gateway})
    _print(args, device, _shown(device))
    return 0


def _set(args: argparse.Namespace) -> int:
    metrics = {name: _bounds(bounds) for name, bounds in _pairs(args.metric).items()}
    with _client() as rest:
        found = rest.put(f"/v1/types/{_part(args.name)}", {"metrics": metrics})
    _print(args, found, _shown(found))
    return 0


def _list_types(args: argparse.Namespace) -> int:
    with _client() as rest:
        types = list(rest.pages("/v1/types", "types"))
    _print(args, {"types": types}, "\n".join(found["name"] for found in types) or "none")
    return 0


def _show_type(args: argparse.Namespace) -> int:
    with _client() as rest:
        found = rest.get(f"/v1/types/{_part(args.name)}")
    _print(args, found, _shown(found))
    return 0


def _broker_file(args: argparse.Namespace) -> int:
    from control_plane.registry import broker_file  # noqa: PLC0415 - reaches the database, which others do not

    written = broker_file.main(os.environ, args.out)
    _print(args, {"file": str(args.out), "records": written}, f"wrote {written} records to {args.out}")
    return 0


def _part(text: str) -> str:
    """One segment of a path: an argument must not reach another route."""
    if not text or any(character in text for character in "/?#%:") or text in (".", ".."):
        raise UsageError(f"{text!r} is no id")
    return text


def _pairs(items: list[str]) -> dict[str, str]:
    found = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise UsageError(f"{item!r} is not NAME=VALUE")
        found[name] = value
    return found


def _bounds(text: str) -> dict[str, float]:
    low, dots, high = text.partition("..")
    if not dots:
        raise UsageError(f"{text!r} is not MIN..MAX")
    try:
        return {name: float(bound) for name, bound in (("min", low), ("max", high)) if bound}
    except ValueError:
        raise UsageError(f"{text!r} is not MIN..MAX") from None


def _new_key_file(path: Path) -> int:
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


def _shown(found: Mapping[str, Any]) -> str:
    return "\n".join(f"{name:<14}{_words(value)}" for name, value in found.items())


def _words(value: Any) -> str:
    return printable(
        value if isinstance(value, str) else "-" if value is None else json.dumps(value, ensure_ascii=False)
    )


def _print(args: argparse.Namespace, found: Mapping[str, Any], text: str) -> None:
    sys.stdout.write((json.dumps(found) if args.json else text) + "\n")
