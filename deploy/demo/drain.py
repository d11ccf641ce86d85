"""After a run: wait until all that was accepted has arrived, and count."""

import asyncio
import time

from deploy.demo.judge import Alarm, Count, Episode, Ledger, Refused, Sent, Visible, count
from deploy.demo.show import Progress
from deploy.demo.watch import Watch
from deploy.site import Gateway
from deploy.site.installation import Installation
from edge_agent.sim.device import Kind
from edge_agent.sim.faults import VALUE_FAULTS
from edge_agent.sim.journal import read_faults, read_sent

TAKEN = (0, 0x10)
"""PUBACK reasons with which a broker has taken a message."""


Evidence = tuple[list[Sent], list[Visible], list[Refused], list[Alarm], list[Episode], list[Ledger]]
"""What `judge.count` and `judge.explain` take, in their order."""


async def drain(site: Installation, watch: Watch, within_s: float, progress: Progress) -> tuple[Count, Evidence]:
    """Count again and again until nothing is missing and no agent holds anything back, or `within_s` has passed.

    The simulator's journal is read from `sim` below the site's root.
    """
    progress.say("draining")
    deadline = time.monotonic() + within_s
    while True:
        watch.changed.clear()
        ledgers = [await asyncio.to_thread(_ledger, gateway) for gateway in site.gateways.values()]
        evidence = _evidence(site, watch, [ledger for ledger, _ in ledgers])
        result = count(*evidence)
        if result.lost == 0 and not any(waiting for _, waiting in ledgers):
            return result, evidence
        if time.monotonic() > deadline:
            progress.say(f"not drained within {within_s:.0f} s")
            return result, evidence
        try:
            await asyncio.wait_for(watch.changed.wait(), 2.0)
        except TimeoutError:
            progress.tick(f"{result.lost} readings on their way")


def _evidence(site: Installation, watch: Watch, ledgers: list[Ledger]) -> Evidence:
    sent = [
        Sent(line.device, line.n, line.sent_ms, line.code in TAKEN, line.sha256)
        for line in read_sent(site.root / "sim")
        if line.kind is not Kind.REPEAT
    ]
    episodes = [
        Episode(line.device, line.metric, line.fault, line.start_ms, line.end_ms)
        for line in read_faults(site.root / "sim")
        if line.fault in VALUE_FAULTS
    ]
    return sent, watch.visible(), watch.refused(), watch.alarms(), episodes, ledgers


def _ledger(gateway: Gateway) -> tuple[Ledger, int]:
    """The agent's account over all classes, and how many records still wait."""
    classes = gateway.ledger()["classes"].values()
    accepted, acked, waiting = (sum(item[name] for item in classes) for name in ("accepted", "acked", "waiting"))
    return Ledger(gateway.id, accepted, acked), waiting
