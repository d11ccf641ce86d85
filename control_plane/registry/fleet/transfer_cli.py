"""`hub device import` and `hub device export`: many devices at once, with a line of progress on standard error."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, BinaryIO

from control_plane.registry.cli_words import Nouns, client, leaf, say
from control_plane.registry.fleet.device_cli import asked, new_key_file, search_options
from shared.errors import Permanent, Transient
from shared.printable import printable

_PIECE_BYTES = 256 * 1024
_TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv"}


def register(nouns: Nouns) -> None:
    """Add these commands."""
    actions = nouns.actions("device")
    load = leaf(
        actions, "import", "register many devices from a file, JSON lines or CSV",
        "hub device import fleet.csv --mode all_or_nothing", _import,
    )  # fmt: skip
    load.add_argument("file", metavar="FILE", help="- for standard input")
    load.add_argument("--format", choices=list(_TYPES), help="default: by the file's name, else jsonl")
    load.add_argument(
        "--mode", choices=["per_line", "all_or_nothing"], default="per_line", help="what a refused line means"
    )
    load.add_argument(
        "--keys-out", type=Path, metavar="FILE",
        help="make a key for each device and write them there (0600); the broker is restarted once",
    )  # fmt: skip
    save = leaf(
        actions,
        "export",
        "write devices as a file that can be imported",
        "hub device export --out fleet.csv",
        _export,
    )
    search_options(save)
    save.add_argument("--format", choices=list(_TYPES), help="default: by the file's name, else jsonl")
    save.add_argument("--out", metavar="FILE", help="default: standard output")


def _import(args: argparse.Namespace) -> int:
    with ExitStack() as stack:
        file: BinaryIO = sys.stdin.buffer if args.file == "-" else stack.enter_context(_opened(args.file))
        keys: IO[str] | None = None
        if args.keys_out is not None:
            keys = stack.enter_context(os.fdopen(new_key_file(args.keys_out), "w", encoding="ascii"))
        rest = stack.enter_context(client())
        content_type = _TYPES[_format(args, args.file)]
        reports = rest.upload(
            "/v1/devices:import", _pieces(file), content_type, mode=args.mode, keys=keys is not None
        )
        done, refused = _followed(reports, keys)
        if keys is not None:
            keys.flush()
            os.fsync(keys.fileno())
    found = {"created": done["created"], "lines": done["lines"], "refused": refused}
    text = [f"line {bad['line']}: {bad.get('pointer', '')} {bad['detail']}".replace("  ", " ") for bad in refused]
    text.append(f"{done['created']} registered, {len(refused)} refused")
    say(args, found, "\n".join(map(printable, text)))
    return 1 if refused else 0


def _followed(reports: Iterator[dict[str, Any]], keys: IO[str] | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report to its end; keys are written as they come."""
    refused: list[dict[str, Any]] = []
    for report in reports:
        if "progress" in report:
            _progress(f"{report['progress']['lines']} lines read, {report['progress']['refused']} refused")
        elif "done" in report:
            _progress("")
            return report["done"], refused
        elif "failed" in report:
            _progress("")
            problem = report["failed"]
            kind = Transient if problem["status"] == 503 else Permanent
            raise kind(problem["detail"], hint="what was not reported as created was not registered")
        elif report["result"] == "refused":
            refused.append(report)
        elif keys is not None:
            keys.write(json.dumps({"id": report["id"], "api_key": report["api_key"]}) + "\n")
    raise Transient("the report ended before the import did", hint="look what is registered, then import the rest")


def _export(args: argparse.Namespace) -> int:
    written = 0
    with ExitStack() as stack:
        out: BinaryIO = sys.stdout.buffer
        if args.out is not None:
            out = stack.enter_context(_new(args.out))
        rest = stack.enter_context(client())
        query = asked(args) | {"format": _format(args, args.out or "")}
        for piece in rest.stream("/v1/devices:export", **query):
            out.write(piece)
            written += len(piece)
            if args.out is not None:
                _progress(f"{written} bytes written")
        out.flush()
        if args.out is not None:
            os.fsync(out.fileno())
            _progress("")
    if args.out is not None:
        say(args, {"file": args.out, "bytes": written}, f"wrote {written} bytes to {args.out}")
    return 0


def _format(args: argparse.Namespace, name: str) -> str:
    return args.format or ("csv" if name.endswith(".csv") else "jsonl")


def _opened(name: str) -> BinaryIO:
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise Permanent(f"{name} cannot be read: {error.strerror}") from error


def _new(name: str) -> BinaryIO:
    try:
        return Path(name).open("wb")
    except OSError as error:
        raise Permanent(f"{name} cannot be written: {error.strerror}") from error


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece


def _progress(words: str) -> None:
    """One line that overwrites itself, where somebody looks on."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{words}")
        sys.stderr.flush()
