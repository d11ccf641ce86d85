"""`make chaos`: TIMES kills of each victim (default 10), SEED. Minutes to hours; the last line is one JSON object.

Exit status 0 if nothing was lost, rejected, doubled or out of order, in the topics as in PostgreSQL; 1 otherwise; 2
wrong settings.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict

from deploy.chaos.matrix import Victim
from deploy.chaos.run import chaos
from deploy.chaos.window import windows
from deploy.demo.show import Progress, error_line
from shared.errors import HubError, Permanent


def main() -> int:
    """Run the matrix, then measure the local broker's windows."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends us ends our servers too
    progress = Progress()
    try:
        times, seed, victims = settings(os.environ)
        outcome = asyncio.run(chaos(victims, times, seed, progress))
        lost_locally = asyncio.run(windows(seed, progress))
    except HubError as error:
        progress.say(f"failed: {error}")
        print(error_line(str(error)))
        return 2 if isinstance(error, Permanent) else 1
    failures = outcome.failures()
    for failure in failures:
        print(f"FAILED: {failure}")
    local_broker = {setting: asdict(window) for setting, window in lost_locally.items()}
    print(json.dumps(outcome.summary() | {"seed": seed, "local_broker": local_broker}))
    return 1 if failures else 0


def settings(env: Mapping[str, str]) -> tuple[int, int, list[Victim]]:
    """TIMES, SEED and VICTIMS (comma separated; default all). Raises Permanent where they are unfit."""
    try:
        times = int(env.get("TIMES") or 10)
        seed = int(env.get("SEED") or time.time_ns() // 1_000_000_000 % 1_000_000)
        victims = [Victim(word) for word in (env.get("VICTIMS") or ",".join(Victim)).split(",")]
    except ValueError as error:
        raise Permanent(f"TIMES, SEED or VICTIMS: {error}", hint=f"victims: {', '.join(Victim)}") from error
    if times < 1:
        raise Permanent("TIMES is below 1")
    return times, seed, victims


if __name__ == "__main__":
    sys.exit(main())
