"""`make chaos`: TIMES kills of each victim (default 10), SEED. Minutes to hours; the last line is one JSON object.

Exit status 0 if nothing was lost, doubled or out of order; 1 otherwise; 2 wrong settings.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping

from deploy.chaos.matrix import Victim
from deploy.chaos.run import Window, chaos, local_broker_window
from deploy.demo.show import Progress
from deploy.site.installation import installed
from shared.errors import HubError, Permanent

WINDOW_MESSAGES = 500
WINDOW_RATE = 100.0


def main() -> int:
    """Run the matrix, then measure the local broker's window."""
    progress = Progress()
    try:
        times, seed, victims = settings(os.environ)
        outcome = asyncio.run(chaos(victims, times, seed, progress))
        window = asyncio.run(_window(seed, progress))
    except HubError as error:
        progress.say(f"failed: {error}")
        return 2 if isinstance(error, Permanent) else 1
    failures = outcome.failures()
    for failure in failures:
        print(f"FAILED: {failure}")
    print(
        json.dumps(
            outcome.summary()
            | {"seed": seed, "local_broker_acknowledged": window.acknowledged, "local_broker_lost": window.lost}
        )
    )
    return 1 if failures else 0


async def _window(seed: int, progress: Progress) -> Window:
    gateway_id, devices = f"gw-{seed % 0x10000:04x}-w", ["dev-w-1", "dev-w-2"]
    async with installed({gateway_id: devices}, [], "thermometer", progress.say) as site:
        gateway = site.gateways[gateway_id]
        await asyncio.to_thread(gateway.start)
        progress.say("killing a local broker while its agent is away")
        return await local_broker_window(gateway, devices, WINDOW_MESSAGES, WINDOW_RATE)


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
