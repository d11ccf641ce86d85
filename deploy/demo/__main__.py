"""`make demo`. Exit status: 0 nothing lost or doubled and the anomalies found, 1 otherwise, 2 wrong settings.

The last line of standard output is one JSON object: the figures, or `error` where it did not come to any.
"""

import asyncio
import contextlib
import signal
import sys
import time

from deploy.demo import flood, rotation
from deploy.demo.run import demo, settings
from deploy.demo.show import Progress, error_line, last_line, table
from deploy.site.installation import Installation
from shared.errors import HubError


def main() -> int:
    """Run the demo; returns the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends us ends our servers too
    progress = Progress()
    try:
        seconds, seed = settings()
    except HubError as error:
        return _failed(progress, str(error), 2)
    began = time.monotonic()
    took_s = 0.0

    async def when_done(site: Installation) -> None:
        nonlocal took_s
        took_s = time.monotonic() - began  # before it serves, for as long as somebody likes to look
        if sys.stdin.isatty() and sys.stderr.isatty():
            await _serve(site, progress)

    try:
        result, found = asyncio.run(demo(seconds, seed, progress, when_done))
    except HubError as error:
        return _failed(progress, str(error), 1)
    except KeyboardInterrupt:
        return _failed(progress, "stopped", 130)
    failures = result.failures() + flood.failures(found) + rotation.failures(found)
    print(table(result))
    for failure in failures:
        print(f"  FAILED: {failure}")
    print(last_line(result, **found, seconds=round(took_s, 1), seed=seed), flush=True)
    return 1 if failures else 0


def _failed(progress: Progress, why: str, status: int) -> int:
    progress.say(f"failed: {why}")
    print(error_line(why), flush=True)
    return status


async def _serve(site: Installation, progress: Progress) -> None:
    """Say what to try, and leave everything running until Ctrl-C."""
    progress.say("everything still runs; in another terminal, try:")
    for name, value in site.stack.env().items():
        progress.say(f"  export {name}={value}")
    for command in ("hub status", "hub telemetry tail", "hub anomalies", "hub device list", "hub deadletters list"):
        progress.say(f"  .venv/bin/{command}")
    progress.say("Ctrl-C ends it and prints the count")
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stopped.set)
    try:
        await stopped.wait()
    finally:
        with contextlib.suppress(ValueError):
            loop.remove_signal_handler(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
