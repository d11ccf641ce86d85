"""`make demo`. Exit status: 0 nothing lost or doubled and the anomalies found, 1 otherwise, 2 wrong settings."""

import asyncio
import contextlib
import signal
import sys
import time

from deploy.demo.run import demo, settings
from deploy.demo.show import Progress, last_line, table
from deploy.site.installation import Installation
from shared.errors import HubError


def main() -> int:
    """Run the demo; the last line of standard output is one JSON object."""
    progress = Progress()
    try:
        seconds, seed = settings()
    except HubError as error:
        progress.say(str(error))
        return 2
    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    began = time.monotonic()

    async def when_done(site: Installation) -> None:
        if terminal:
            await _serve(site, progress)

    try:
        result = asyncio.run(demo(seconds, seed, progress, when_done))
    except HubError as error:
        progress.say(f"failed: {error}")
        return 1
    except KeyboardInterrupt:
        progress.say("stopped")
        return 130
    failures = result.failures()
    print(table(result))
    for failure in failures:
        print(f"  FAILED: {failure}")
    print(last_line(result, seconds=round(time.monotonic() - began, 1), seed=seed), flush=True)
    return 1 if failures else 0


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
