"""`hub`: every command of the control plane. The one place that knows all rooms; imported by nobody.

Exit status: 0 done, 1 failed, 2 usage or configuration, 3 not found, 4 a server is away: try again.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from control_plane import status, supervisor
from control_plane.analytics import cli as analytics
from control_plane.db import cli as db
from control_plane.ingest import cli as ingest
from control_plane.registry import cli as registry
from shared.config import ConfigError
from shared.errors import HubError, Transient
from shared.lifecycle import die_with_parent
from shared.version import installed_version

_STATUSES = "Exit status: 0 done, 1 failed, 2 usage or configuration, 3 not found, 4 a server is away: try again."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parent = os.environ.get("HUB_SUPERVISOR_PID", "")
    if parent.isdigit():
        die_with_parent(int(parent))
    args = parser().parse_args(argv)
    try:
        done: int = args.run(args)
    except HubError as error:
        _complain(error, as_json=getattr(args, "json", False))
        return _exit_status(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return done


def parser() -> argparse.ArgumentParser:
    """All commands of all rooms."""
    top = argparse.ArgumentParser(
        prog="hub",
        description="The control plane of an IoT fleet: registry, ingest, analytics.",
        epilog="example: hub device add --serial SN-1 --type thermometer\n\n"
        f"{_STATUSES}\n\nThe servers' addresses come from the environment (`make stack` prints it).",
    )
    top.add_argument(
        "--version", action="version", version=f"hub {installed_version()}", help="which version this is"
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    db.register(commands)
    supervisor.register(commands)
    status.register(commands)
    registry.register(commands)
    ingest.register(commands)
    analytics.register(commands)
    _say_statuses(top)
    return top


class _Paragraphs(argparse.HelpFormatter):
    """Fills each paragraph by itself, so that an example ends with its line."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(super(_Paragraphs, self)._fill_text(part, width, indent) for part in text.split("\n\n"))


def _say_statuses(parser: argparse.ArgumentParser) -> None:
    """In the help of each command that does not say its own."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner and "Exit status:" not in (parser.description or ""):
        parser.epilog = f"{parser.epilog}\n\n{_STATUSES}"
    parser.formatter_class = _Paragraphs
    for action in inner:
        for child in action.choices.values():
            _say_statuses(child)


def _complain(error: HubError, *, as_json: bool) -> None:
    if as_json:
        # On standard output, so that a program which reads JSON there always finds some.
        message = error.args[0] if error.args else ""
        body = {"message": str(message), "hint": error.hint, "transient": isinstance(error, Transient)}
        print(json.dumps({"error": body}))
    else:
        print(f"hub: {error}", file=sys.stderr)


def _exit_status(error: HubError) -> int:
    if isinstance(error, ConfigError):
        return 2
    found = getattr(error, "exit_status", None)
    if isinstance(found, int):
        return found
    return 4 if isinstance(error, Transient) else 1


if __name__ == "__main__":
    sys.exit(main())
