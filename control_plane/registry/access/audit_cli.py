"""`hub audit`: who did what, to whom, from where."""

import argparse
import json
import os
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from control_plane.registry.cli_words import Nouns, UsageError, client, say, seconds
from shared.errors import Permanent
from shared.printable import printable


def register(nouns: Nouns) -> None:
    """Add this command."""
    parser = nouns.command(
        "audit", "show who did what, newest first, or take a copy", "hub audit --target cellar-1 --since 7d", _audit
    )
    parser.add_argument("--target", metavar="ID", help="only what was done to this device, type, token, ...")
    parser.add_argument("--actor", metavar="ID", help="only what this token or key did")
    parser.add_argument("--action", metavar="ACTION", help="only this, such as device.register, or a family: device")
    parser.add_argument("--since", metavar="TIME", help="a span such as 12h or 7d, or a moment in RFC 3339")
    parser.add_argument("--until", metavar="TIME", help="the same, where it stops")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most this many lines (default 100)")
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FILE",
        help="write all of it there, oldest first (mode 0600): CSV if the name ends in .csv, else JSON lines",
    )


def _audit(args: argparse.Namespace) -> int:
    if args.limit < 1:
        raise UsageError("--limit is not at least 1")
    query = {"target": args.target, "actor": args.actor, "action": args.action}
    query |= {"from": _moment(args.since), "to": _moment(args.until)}
    if args.export is not None:
        return _export(args, query)
    with client() as rest:
        entries = list(islice(rest.pages("/v1/audit", "entries", **query), args.limit))
    say(args, {"entries": entries}, "\n".join(map(_line, entries)) or "none")
    return 0


def _export(args: argparse.Namespace, query: dict[str, Any]) -> int:
    path: Path = args.export
    kind = "csv" if path.suffix == ".csv" else "jsonl"
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file, client() as rest:
            for part in rest.stream("/v1/audit:export", format=kind, **query):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        size = unfinished.stat().st_size
        unfinished.replace(path)
    except OSError as error:
        raise Permanent(f"{path} cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    say(args, {"file": str(path), "format": kind, "bytes": size}, f"wrote {size} bytes to {path}")
    return 0


def _line(entry: dict[str, Any]) -> str:
    more = {name: entry[name] for name in ("detail", "before", "after") if entry[name]}
    words = f"{entry['at'][:19]}Z {entry['actor']:<16} {entry['source'] or '-':<16} {entry['action']:<24}"
    erased = " (values erased)" if entry["erased"] else ""
    return printable(
        f"{words} {entry['target']} {json.dumps(more, ensure_ascii=False) if more else ''}{erased}".rstrip()
    )


def _moment(text: str | None) -> str | None:
    """A moment as REST takes it."""
    if text is None:
        return None
    if text[-1:].isalpha() and text[-1:] != "Z":
        return (datetime.now(UTC) - timedelta(seconds=min(seconds(text), 50 * 365 * 86400))).isoformat()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is neither a span such as 7d nor a moment in RFC 3339") from None
    return (moment if moment.tzinfo else moment.astimezone()).isoformat()
