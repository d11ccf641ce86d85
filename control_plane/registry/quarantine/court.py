"""Automatic quarantine: reads what devices did wrong, has the judge judge it, and carries out its verdicts.

Promises: nothing is lost and nothing counted twice by a restart, because nothing is kept: at each start it reads
again from one window before now, so the judge knows what it would have known, and a verdict against a device that is
quarantined already changes nothing. One process does this (`leader`). What it cannot do now it does again from there.
"""

import asyncio
import random
import time
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from control_plane.db.connect import Pool, acquire
from control_plane.db.kafka_reader import stop_reader
from control_plane.registry import policies
from control_plane.registry.life import Illegal
from control_plane.registry.quarantine import events
from control_plane.registry.quarantine.evidence import of_conduct, of_rejected
from control_plane.registry.quarantine.judge import Judge, Verdict
from control_plane.registry.quarantine.keeper import BY_POLICY, SQL, Quarantine
from control_plane.registry.quarantine.rules import LONGEST_WINDOW_S, QuarantinePolicy, Rule
from shared.authority import Actor, Role
from shared.backoff import Backoff
from shared.errors import HubError, Transient
from shared.ids import DeviceId
from shared.topics import Kafka

_READ = {Kafka.REJECTED: of_rejected, Kafka.CONDUCT: of_conduct}
_BACKOFF = Backoff(first_s=0.5, cap_s=15.0)
_STABLE_S = 60.0
_POLICY_S = 5.0
"""A change of the policy is obeyed within so long."""
_METADATA_S = 10.0
_AT_ONCE = 500
_WORDS = {
    Rule.MALFORMED_RATE: "too much that cannot be read",
    Rule.IMPOSSIBLE_CLOCK: "too many readings at impossible times",
    Rule.FLOOD: "lasting excess over its limit",
    Rule.FOREIGN_DEVICES: "readings for devices that are not its own",
    Rule.IGNORED_HINT: "a flow hint that was heard and not obeyed",
    Rule.FALSE_HEADERS: "batches with false headers",
}


class Court:
    """`serve` until cancelled."""

    def __init__(self, database: Pool, bootstrap: str, quarantine: Quarantine) -> None:
        self._database = database
        self._bootstrap = bootstrap
        self._quarantine = quarantine

    async def serve(self) -> None:
        """Read and judge; whatever is away is tried again."""
        attempt = 0
        while True:
            began = time.monotonic()
            try:
                await self._sit()
            except (HubError, KafkaError, OSError, TimeoutError) as error:
                attempt = 0 if time.monotonic() - began > _STABLE_S else attempt + 1
                delay_s = _BACKOFF.delay_s(attempt, random.random())  # noqa: S311 - jitter
                events.JudgeAway(str(error)[:200] or type(error).__name__, round(delay_s, 3)).emit()
                await asyncio.sleep(delay_s)

    async def _sit(self) -> None:
        """From one window before now on; ends only by an exception."""
        judge = Judge(await self._policy())
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id="registry-judge",
            enable_auto_commit=False,
            isolation_level="read_committed",
            retry_backoff_ms=500,
        )
        await consumer.start()
        try:
            await self._go_back(consumer, judge.policy)
            looked_at = 0.0
            while True:
                if time.monotonic() - looked_at >= _POLICY_S:
                    await self._refresh(judge)
                    looked_at = time.monotonic()
                found = await consumer.getmany(timeout_ms=1_000, max_records=_AT_ONCE)
                for partition, records in found.items():
                    for record in records:
                        await self._look(judge, Kafka(partition.topic), record.value or b"")
                await asyncio.sleep(0)  # getmany does not wait while it has more, and REST is served beside
        finally:
            await stop_reader(consumer)

    async def _look(self, judge: Judge, topic: Kafka, value: bytes) -> None:
        seen = _READ[topic](value)
        if seen is None:
            return
        events.OBSERVED.labels(seen.rule.value).inc(seen.signs)
        verdict = judge.look(seen, time.time_ns() // 1_000_000)
        if verdict is not None:
            await self._carry_out(judge, verdict)

    async def _carry_out(self, judge: Judge, verdict: Verdict) -> None:
        device_id = verdict.device_id
        async with acquire(self._database) as db:
            suspects = await db.fetch(SQL["suspects"], [device_id])
        await self._refresh(judge)  # an operator may have released it a moment ago
        why = None
        if not suspects:
            why = "it is not registered"
        elif verdict.behind is not None and suspects[0]["gateway_id"] != verdict.behind:
            why = "it is not behind the gateway that sent this"
        elif judge.pardoned(device_id, time.time_ns() // 1_000_000):
            why = "it was released a moment ago"
        else:
            actor = Actor(f"{BY_POLICY}{verdict.rule.value}", Role.ADMIN)
            words = _WORDS[verdict.rule]
            done = await self._quarantine.enter(device_id, actor, words, verdict.evidence, verdict.for_s)
            if isinstance(done, Illegal):
                why = f"it is {done.status.value}"
        if why is not None:
            events.VerdictNotCarriedOut(self._quarantine.pseudonym(device_id), verdict.rule.value, why).emit()

    async def _policy(self) -> QuarantinePolicy:
        async with acquire(self._database) as db:
            return await policies.load(db, QuarantinePolicy)

    async def _refresh(self, judge: Judge) -> None:
        judge.policy = await self._policy()
        async with acquire(self._database) as db:
            rows = await db.fetch(SQL["releases_since"], float(LONGEST_WINDOW_S + judge.policy.grace_s))
        for row in rows:
            judge.released(DeviceId(row["device_id"]), int(row["at"].timestamp() * 1_000))

    async def _go_back(self, consumer: Any, policy: QuarantinePolicy) -> None:
        """To what the judge would remember."""
        windows = [found.window_s for rule in Rule if (found := policy.threshold(rule)) is not None]
        since_ms = time.time_ns() // 1_000_000 - max(windows, default=0) * 1_000
        partitions = [part for topic in _READ for part in await _partitions(consumer, topic)]
        consumer.assign(partitions)
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            start = found.get(partition)
            consumer.seek(partition, ends[partition] if start is None else start.offset)


async def _partitions(consumer: Any, topic: Kafka) -> list[TopicPartition]:
    first = TopicPartition(topic.value, 0)
    consumer.assign([first])  # has the client learn of the topic
    try:
        async with asyncio.timeout(_METADATA_S):
            await consumer.end_offsets([first])
    except TimeoutError as error:
        hint = "if it does not exist, run `hub migrate`"
        raise Transient(f"Kafka's topic {topic.value} does not answer", hint=hint) from error
    return [
        TopicPartition(topic.value, number) for number in sorted(consumer.partitions_for_topic(topic.value) or ())
    ]
