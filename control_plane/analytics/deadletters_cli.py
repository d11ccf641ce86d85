"""`hub analytics normalizer` and `hub deadletters`."""

import argparse
import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from control_plane.analytics.sink_cli import since_ms
from shared.config import ConfigError, load, setting
from shared.errors import Reason
from shared.printable import printable

if TYPE_CHECKING:
    from control_plane.analytics.deadletters import DeadLetter

NOT_FOUND = 3
_PREVIEW_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class DeadLettersConfig:
    """What `hub deadletters` reads."""

    kafka_bootstrap: str = setting("HUB_KAFKA_BOOTSTRAP", "Kafka, host:port")


def register(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    jobs: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add `normalizer` to the jobs, and `deadletters` to the commands."""
    normalizer = jobs.add_parser(
        "normalizer",
        help="judge raw telemetry",
        description="Judge every raw record: what is sound goes to normalized, the rest to rejected.",
        epilog="example: hub analytics normalizer",
    )
    normalizer.set_defaults(run=_normalizer)
    letters = commands.add_parser("deadletters", help="look at what was refused, and bring it back").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    _add_list(letters)
    _add_show(letters)
    _add_replay(letters)


def _add_list(letters: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = letters.add_parser(
        "list",
        help="list dead letters",
        description="List what was refused, in order per device, as long as Kafka keeps it.",
        epilog="example: hub deadletters list --reason unknown_device --since 1h",
    )
    _add_choice(parser)
    parser.add_argument("--limit", type=_positive, default=1_000, metavar="N", help="the most to show (1000)")
    parser.add_argument("--json", action="store_true", help="print each as one JSON object on a line")
    parser.set_defaults(run=_list)


def _add_show(letters: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = letters.add_parser(
        "show",
        help="show one dead letter",
        description="Show why a message was refused, where it came from, and its bytes.",
        epilog="example: hub deadletters show t-1:8f14e45fceea167a5a36dedd4bea2543",
    )
    parser.add_argument("ce_id", metavar="CE_ID", help="its id, from `hub deadletters list`")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_show)


def _add_replay(letters: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = letters.add_parser(
        "replay",
        help="have dead letters judged again",
        description="Write dead letters back to raw once their cause is mended. Each is judged as of its own sender "
        "and time and keeps its id, so one that came back already is known again. What was cut cannot come back.",
        epilog="example: hub deadletters replay --reason unknown_device --since 1h",
    )
    _add_choice(parser)
    parser.add_argument("--id", metavar="CE_ID", help="only this one")
    parser.add_argument("--all", action="store_true", help="all of them, if nothing else chooses")
    parser.add_argument("--limit", type=_positive, metavar="N", help="the most to write")
    parser.add_argument("--rate", type=_positive, default=500, metavar="N", help="the most to write a second (500)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_replay)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", metavar="REASON", help="refused for this: " + ", ".join(Reason))
    parser.add_argument("--device", metavar="ID", help="of this device, or sent by this device or gateway")
    parser.add_argument(
        "--since", metavar="TIME", help="received since: 2026-01-31T12:00:00Z, or 90s, 10m, 2h, 1d ago"
    )


def _list(args: argparse.Namespace) -> int:
    from control_plane.analytics import deadletters  # noqa: PLC0415

    choice = _choice(args)
    found = 0

    async def show() -> None:
        nonlocal found
        async for letter in deadletters.scan(_bootstrap(), choice):
            found += 1
            _print(json.dumps(_brief(letter)) if args.json else _line(letter))
            if found >= args.limit:
                return

    asyncio.run(show())
    if not found and not args.json:
        sys.stderr.write("no dead letters\n")
    return 0


def _show(args: argparse.Namespace) -> int:
    from control_plane.analytics import dead_letter, deadletters  # noqa: PLC0415

    letter = asyncio.run(deadletters.find(_bootstrap(), args.ce_id))
    if letter is None:
        if args.json:
            _print(json.dumps({"error": {"message": "no such dead letter", "hint": "", "transient": False}}))
        else:
            sys.stderr.write("hub: no such dead letter; `hub deadletters list` names what there is\n")
        return NOT_FOUND
    whole = {"ce_id": letter.ce_id, "key": letter.key, **msgspec.to_builtins(letter.record)}
    whole["replayable"] = not dead_letter.was_cut(letter.record)
    if args.json:
        _print(json.dumps(whole))
        return 0
    record = letter.record
    kept = dead_letter.payload(record)
    _print(printable(letter.ce_id))
    _print(printable(f"  {record.reason}: {record.detail}"))
    for name, value in msgspec.to_builtins(record.origin).items():
        if value not in (None, {}):
            _print(printable(f"  {name:13}{value if isinstance(value, str | int) else json.dumps(value)}"))
    _print(
        f"  {'length':13}{record.length}" + ("" if whole["replayable"] else f" (only {len(kept)} kept: no replay)")
    )
    _print(printable(f"  {'sha256':13}{record.sha256}"))
    _print(f"  {'payload':13}{kept[:_PREVIEW_BYTES]!r}{'…' if len(kept) > _PREVIEW_BYTES else ''}")
    return 0


def _replay(args: argparse.Namespace) -> int:
    from control_plane.analytics import deadletters  # noqa: PLC0415

    if not (args.reason or args.device or args.since or args.id or args.all):
        raise ConfigError(["replay: choose by --reason, --device, --since or --id, or say --all"])
    done = asyncio.run(deadletters.replay(_bootstrap(), _choice(args), limit=args.limit, per_s=args.rate))
    if args.json:
        _print(json.dumps({"replayed": done.written, "cut": done.cut, "last_id": done.last_id}))
    else:
        _print(f"{done.written} written back to raw")
        if done.cut:
            _print(f"{done.cut} left: they were over the size limit and only their beginning is kept")
    if args.id and not done.written:
        return 1 if done.cut else NOT_FOUND
    return 0


def _choice(args: argparse.Namespace) -> Any:
    from control_plane.analytics import deadletters  # noqa: PLC0415

    if args.reason is not None and args.reason not in set(Reason):
        raise ConfigError([f"--reason {args.reason!r} is none of: {', '.join(Reason)}"])
    since = since_ms(args.since, time.time_ns() // 1_000_000)
    return deadletters.Choice(args.reason, args.device, getattr(args, "id", None), since)


def _bootstrap() -> str:
    return load(DeadLettersConfig, os.environ).kafka_bootstrap


def _brief(letter: "DeadLetter") -> dict[str, Any]:
    """All but the bytes."""
    data: dict[str, Any] = msgspec.to_builtins(letter.record)
    del data["payload_base64"]
    return {"ce_id": letter.ce_id, "key": letter.key, **data}


def _line(letter: "DeadLetter") -> str:
    record = letter.record
    return printable(
        f"{record.origin.received_at}  {record.reason:15}  {letter.key:20}  {letter.ce_id}  {record.detail}"
    )


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()  # who pipes it to a program wants it now


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("is not at least 1")
    return number


def _normalizer(args: argparse.Namespace) -> int:
    from control_plane.analytics import normalizer_job  # noqa: PLC0415 - its libraries are not every command's

    del args
    return normalizer_job.main(os.environ)
