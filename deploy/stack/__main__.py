"""`python -m deploy.stack up|down|status`: the local servers from the command line.

`up` prints the environment as NAME=value lines on standard output; all else goes to standard error.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from deploy.stack.stack import CHECKOUT, Stack
from shared.errors import HubError, Permanent


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _up(stack: Stack) -> None:
    started = time.monotonic()
    names = ", ".join(server.name for server in stack.servers)
    _say(f"stack: starting {names} in {stack.data_dir}")
    stack.start()
    _say(f"stack: all answer after {time.monotonic() - started:.1f} s")
    _migrate(stack)


def _migrate(stack: Stack) -> None:
    """Bring the database to the present schema and write the first admin token."""
    if importlib.util.find_spec("control_plane.__main__") is None:
        return
    done = subprocess.run(
        [sys.executable, "-m", "control_plane", "migrate"],
        cwd=CHECKOUT,
        env=os.environ | stack.env(),
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode != 0:
        raise Permanent(f"hub migrate ended with status {done.returncode}")


def _status(stack: Stack) -> dict[str, object]:
    servers = {s.name: {"pid": s.pid, "port": s.port, "log": str(s.log_path)} for s in stack.servers}
    return {"data_dir": str(stack.data_dir), "servers": servers}


def main() -> int:
    """Returns the exit status: 0 done, 1 failed; `status` returns 3 if a server is down."""
    parser = argparse.ArgumentParser(prog="python -m deploy.stack", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status"])
    parser.add_argument("--data-dir", type=Path, help="default: HUB_STACK_DIR, else .stack in the checkout")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    asked = parser.parse_args()
    try:
        stack = Stack.open(asked.data_dir)
        if asked.command == "up":
            _up(stack)
            lines = stack.env()
            print(json.dumps(lines) if asked.json else "\n".join(f"{k}={v}" for k, v in lines.items()))
            return 0
        if asked.command == "down":
            stack.stop()
            _say("stack: down; the data stays")
            return 0
        state = _status(stack)
        print(json.dumps(state) if asked.json else _as_text(stack))
        return 0 if all(server.is_running() for server in stack.servers) else 3
    except HubError as error:
        _say(f"stack: {error}")
        return 1


def _as_text(stack: Stack) -> str:
    lines = [f"{'server':<12}{'pid':>8}{'port':>7}  log"]
    lines += [f"{s.name:<12}{s.pid or '-':>8}{s.port:>7}  {s.log_path}" for s in stack.servers]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
