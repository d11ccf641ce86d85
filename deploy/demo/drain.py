"""After a run: wait until all that was accepted has arrived, and count."""

import asyncio
import time

from deploy.demo.judge import Alarm, Count, Episode, Ledger, Refused, Sent, Visible, count
from deploy.demo.show import Progress
from deploy.demo.watch import LiveWatch
from deploy.site import Gateway
from deploy.site.installation import Installation
from edge_agent.sim.device import Kind
from edge_agent.sim.faults import VALUE_FAULTS
from edge_agent.sim.journal import read_faults, read_sent

Evidence = tuple[list[Sent], list[Visible], list[Refused], list[Alarm], list[Episode], list[Ledger]]
"""What `judge.count` and `judge.explain` take, in their order."""


async def drain(site: Installation, watch: LiveWatch, within_s: float, progress: Progress) -> tuple[Count, Evidence]:
    """Count again and again until nothing is missing, no agent holds anything back and the detector has judged all
    that arrived, or until `within_s` has passed.

    The simulator's journal is read from `sim` below the site's root.
    """
    progress.say("draining")
    deadline = time.monotonic() + within_s
    while True:
        watch.changed.clear()
        ledgers = [await asyncio.to_thread(_ledger, gateway) for gateway in site.gateways.values()]
        waiting = sum(waiting for _, waiting in ledgers)
        judged = await watch.detector_is_done()  # before the count: it must hold the alarms
        evidence = _evidence(site, watch, [ledger for ledger, _ in ledgers])
        result = count(*evidence)
        if result.lost == 0 and not waiting and judged:
            return result, evidence
        if time.monotonic() > deadline:
            behind = "" if judged else "; the detector is behind"
            progress.say(f"not drained within {within_s:.0f} s: {waiting} records in outboxes{behind}")
            return result, evidence
        try:
            await asyncio.wait_for(watch.changed.wait(), 2.0)
        except TimeoutError:
            progress.tick(f"{result.lost} readings on their way, {waiting} in outboxes")


def _evidence(site: Installation, watch: LiveWatch, ledgers: list[Ledger]) -> Evidence:
    sent = [
        Sent(line.device, line.n, line.sent_ms, line.code, line.sha256)
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
