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
        epilog="example: hub device add --serial SN-1 --type thermometer. "
        "The servers' addresses come from the environment (`make stack` prints it).",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    db.register(commands)
    supervisor.register(commands)
    status.register(commands)
    registry.register(commands)
    ingest.register(commands)
    analytics.register(commands)
    return top


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
