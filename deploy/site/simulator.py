"""edge-sim as a process."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from edge_agent.sim.plan import Plan
from shared.errors import Permanent


async def simulate(plan: Plan, root: Path, seconds: float) -> None:
    """Run a plan for `seconds`; the journal is written to `root/sim`. Raises Permanent with what it said if it fails.

    The plan's file holds keys, so only its owner may read it.
    """
    file = root / "plan.json"
    file.touch(mode=0o600)
    file.write_bytes(msgspec.json.encode(plan))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge_agent.sim", "--plan", str(file), "--out", str(root / "sim"),
        "--duration", str(seconds), "--drain", "60", "--json",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    talking = asyncio.create_task(process.communicate())
    try:
        out, errors = await asyncio.shield(talking)
    except asyncio.CancelledError:
        process.terminate()  # it stops measuring, waits for what is open, and writes its journal to the end
        await talking
        raise
    if process.returncode != 0:
        raise Permanent(f"edge-sim ended with {process.returncode}: {errors.decode()[-500:]}{out.decode()[-300:]}")


async def stop_simulator(run: "asyncio.Task[None]") -> None:
    """End a `simulate` before its time; returns when its journal is complete. Raises what the run raised."""
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
