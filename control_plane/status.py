"""`hub status`: the services of `hub serve`, each asked whether it is ready; with `--wait`, until all are."""

import argparse
import http.client
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control_plane import run_dir
from shared.config import load, setting

_READY_S = 2.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class StatusConfig:
    """What `hub status` reads."""

    data_dir: Path = setting("HUB_DATA_DIR", "the hub's own directory")


def status(data_dir: Path) -> dict[str, Any]:
    """What `hub status --json` prints: `serving`, the supervisor's `pid`, and each service with its readiness."""
    state = run_dir.read(data_dir)
    if state is None:
        return {"serving": False, "pid": None, "services": []}
    with ThreadPoolExecutor(max_workers=max(1, len(state["services"]))) as pool:
        answers = pool.map(
            lambda service: _ask_ready(state["health_host"], service["health_port"], service["pid"]),
            state["services"],
        )
        services = [
            service | {"ready": not missing, "missing": missing}
            for service, missing in zip(state["services"], answers, strict=True)
        ]
    return {"serving": True, "pid": state["pid"], "services": services}


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `status`."""
    parser = commands.add_parser(
        "status",
        help="show the services of `hub serve`",
        description="Show each service with its pid, restarts and readiness. "
        "Exit status: 0 all are ready, 1 not all, 2 usage or configuration.",
        epilog="example: hub status --wait 60",
    )
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="S", help="wait so many seconds until all are ready"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_status)


def _status(args: argparse.Namespace) -> int:
    found = _wait(load(StatusConfig, os.environ).data_dir, args.wait)
    sys.stdout.write(json.dumps(found) + "\n" if args.json else _as_text(found))
    return 0 if _all_ready(found) else 1


def _wait(data_dir: Path, wait_s: float) -> dict[str, Any]:
    """The state once all are ready, or when the time is over; says on standard error what it waits for."""
    deadline = time.monotonic() + wait_s
    said = ""
    while True:
        found = status(data_dir)
        left_s = deadline - time.monotonic()
        if _all_ready(found) or left_s <= 0:
            return found
        words = _waited_for(found)
        if words != said:
            said = words
            sys.stderr.write(f"waiting for {words}\n")
        time.sleep(min(_POLL_S, left_s))


def _all_ready(found: dict[str, Any]) -> bool:
    return found["serving"] and all(service["ready"] for service in found["services"])


def _waited_for(found: dict[str, Any]) -> str:
    late = ", ".join(service["name"] for service in found["services"] if not service["ready"])
    return late or "`hub serve` to start"


def _as_text(found: dict[str, Any]) -> str:
    if not found["serving"]:
        return "not serving; start it with `hub serve`\n"
    lines = [f"{'service':<12}{'pid':>8}{'restarts':>10}  ready"]
    for service in found["services"]:
        words = "yes" if service["ready"] else "no: " + "; ".join(service["missing"])
        lines.append(f"{service['name']:<12}{service['pid'] or '-':>8}{service['restarts']:>10}  {words}")
    return "\n".join(lines) + "\n"


def _ask_ready(host: str, port: int, pid: int | None) -> list[str]:
    if pid is None:
        return ["does not run"]
    connection = http.client.HTTPConnection(host, port, timeout=_READY_S)
    try:
        connection.request("GET", "/readyz")
        missing = json.loads(connection.getresponse().read())["missing"]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return ["does not answer yet"]
    finally:
        connection.close()
    return [str(words) for words in missing]
