"""Broker equals Postgres: compared after each connect, when any API process asks (NOTIFY), and every ten minutes.

Promises: keys that should not be at the broker are removed, by command, those of somebody who is cut off before all
others; keys that it lost are counted and announced, since only its file and a start bring them back, which the policy
`broker` may have done by itself (`rebuild`). Both sides are walked in order of name, so memory is bounded by what is
wrong. A broker that goes away meanwhile is compared anew when it is back. One process at a time does this (`leader`).
"""

import asyncio
import dataclasses
import time
from bisect import bisect_right
from datetime import timedelta

import msgspec

from control_plane.db.connect import connect, database_errors
from control_plane.registry import dynsec, events
from control_plane.registry.broker import Broker, BrokerRefused
from control_plane.registry.dynsec import BrokerRecord, Command, RecordPage
from control_plane.registry.projection import Comparison, Repair
from control_plane.registry.rebuild import Rebuild
from control_plane.registry.store import Store
from shared.errors import HubError, Transient

CHANNEL = "registry_reconcile"
UNFINISHED = timedelta(minutes=5)
"""A registration that is older than this and unfinished will not be finished: its request has long been answered."""
CLAIMS = timedelta(hours=24)
"""How long an Idempotency-Key is remembered."""
_EVERY_S = 600.0
_RETRY_S = 5.0
_PAGE = 500
_KEYS = 5_000
_STEPS_BACK = 50
"""So often the list may move under our feet before it is begun anew."""
_AT_ONCE = 20
"""Cut off without pauses; more at a time would keep the broker from everybody else."""


class Reconciler:
    """`wake` asks for a comparison; `serve` does them. Without `rebuild` what is missing is only announced."""

    def __init__(self, store: Store, broker: Broker, database_url: str, rebuild: Rebuild | None = None) -> None:
        self._store = store
        self._broker = broker
        self._database_url = database_url
        self._rebuild = rebuild
        self._asked = asyncio.Event()
        self.missing: int | None = None
        """How many keys the broker lost, as of the last comparison; None before the first."""

    def wake(self) -> None:
        """Compare soon."""
        self._asked.set()

    async def serve(self) -> None:
        """Compare now and whenever asked, by this process or another, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._compare())

    async def _listen(self) -> None:
        """Hear the calls of other API processes, which do not lead."""
        while True:
            try:
                await self._hear()
            except HubError as error:
                events.ReconcilerDeaf(str(error)).emit()
            await asyncio.sleep(_RETRY_S)

    async def _hear(self) -> None:
        connection = await connect(self._database_url, application="hub registry reconciler")
        try:
            ended = asyncio.Event()
            connection.add_termination_listener(lambda *_: ended.set())
            with database_errors():
                await connection.add_listener(CHANNEL, lambda *_: self.wake())
            self.wake()  # for the calls that nobody heard
            await ended.wait()
        finally:
            connection.terminate()

    async def _compare(self) -> None:
        self._asked.set()
        wait_s = _EVERY_S
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    await self._asked.wait()
            except TimeoutError:
                pass
            self._asked.clear()
            wait_s = _EVERY_S
            try:
                repair = await self.run()
                if repair.more or await self._rebuilt(repair):
                    self._asked.set()
            except HubError as error:
                events.ReconcileFailed(str(error)).emit()
                wait_s = _RETRY_S  # or as soon as the broker is connected again, which wakes us

    async def _rebuilt(self, repair: Repair) -> bool:
        """Whether the policy had the broker restarted with its file."""
        if not repair.missing_count or self._rebuild is None:
            return False
        return await self._rebuild.by_policy(repair.desired, repair.missing_count) is not None

    async def run(self) -> Repair:
        """One comparison and its repairs; what it found. Raises Transient or Permanent."""
        await self._store.sweep(unfinished=UNFINISHED, claims=CLAIMS)
        started = time.monotonic()
        repair, records = await self._walk()
        await self._mend(repair)
        missing = await self._really_missing(repair)
        self.missing = missing
        repair = dataclasses.replace(
            repair, missing_count=missing, missing=repair.missing if missing else (), actual=repair.desired - missing
        )
        events.BrokerReconciled(
            records=records,
            desired=repair.desired,
            actual=repair.actual,
            deleted=len(repair.delete),
            disabled=len(repair.disable),
            enabled=len(repair.enable),
            created=len(repair.create),
            missing=missing,
            withheld=repair.withheld,
            seconds=round(time.monotonic() - started, 3),
            converged_at=time.time() if not (missing or repair.withheld or repair.more) else None,
        ).emit()
        if missing:
            events.BrokerRecordsMissing(missing).emit()
        if repair.withheld:
            events.BrokerRecordsUnknown(repair.withheld).emit()
        return repair

    async def _walk(self) -> tuple[Repair, int]:
        """Both sides in step, and how many records the broker has.

        Pages go by number, and the list may move between two of them. So each page must reach back to the last name
        of the one before; where it does not, records would be passed over, and we step back.
        """
        comparison = Comparison(await self._store.projection.doors())
        last, offset, steps_back = "", 0, 0
        while True:
            page = await self._page(offset)
            records = page.records
            if offset and (not records or records[0].username > last):
                steps_back += 1
                if steps_back > _STEPS_BACK:
                    raise Transient("the broker's records changed too fast to be compared")
                offset = max(0, min(offset, page.total) - _PAGE // 2)
                continue
            end = offset + len(records) >= page.total or not records
            fresh = records[bisect_right(records, last, key=lambda record: record.username) :]
            until = fresh[-1].username if fresh else last
            await self._range(comparison, fresh, last, None if end else until)
            if end:
                return comparison.repair(), page.total
            last, offset = until, offset + len(records) - 1

    async def _range(self, comparison: Comparison, records: list[BrokerRecord], last: str, until: str | None) -> None:
        """The records beyond `last` up to `until` against the keys of the same names, which are read after them."""
        while True:
            found = await self._store.projection.between(last, until, _KEYS)
            keys = dict(found)
            full = len(found) == _KEYS
            high = found[-1][0] if full else until
            cut = len(records) if high is None else bisect_right(records, high, key=lambda record: record.username)
            here, records = records[:cut], records[cut:]
            unknown = comparison.unknown(keys, here)
            ended = await self._store.projection.known(unknown) if unknown else set()
            comparison.range(keys, here, ended)
            if not full or high is None:
                return
            last = high

    async def _page(self, offset: int) -> RecordPage:
        answer = await self._broker.command(dynsec.list_clients(_PAGE, offset), patient=True)
        try:
            page = dynsec.decode_page(answer)
        except msgspec.DecodeError as error:
            raise Transient(f"the broker's list of clients cannot be read: {error}") from error
        names = [record.username for record in page.records]
        if names != sorted(names):
            raise Transient(
                "the broker lists its clients in no order", hint="Mosquitto 2.0 and 2.1 sort by user name"
            )
        return page

    async def _mend(self, repair: Repair) -> None:
        """Who is cut off first, and of those the first few without a pause."""
        ends = [(name, dynsec.delete_client(name)) for name in repair.delete]
        ends += [(name, dynsec.disable_client(name)) for name in repair.disable]
        first = [command for name, command in ends if name in repair.urgent]
        for number, command in enumerate(first):
            await self._do(command, urgent=number < _AT_ONCE)
        rest = [command for name, command in ends if name not in repair.urgent]
        rest += [dynsec.enable_client(name) for name in repair.enable]
        rest += [dynsec.create_door(name) for name in repair.create]
        for command in rest:
            await self._do(command, patient=True)

    async def _really_missing(self, repair: Repair) -> int:
        """Without those that came after the list was taken, and those that ended meanwhile."""
        if repair.missing_count > len(repair.missing):
            return repair.missing_count
        missing = []
        for name in repair.missing:
            try:
                await self._broker.command(dynsec.get_client(name), patient=True)
            except BrokerRefused:
                missing.append(name)
        return len(await self._store.projection.held(missing)) if missing else 0

    async def _do(self, command: Command, *, urgent: bool = False, patient: bool = False) -> None:
        try:
            await self._broker.command(command, urgent=urgent, patient=patient)
        except BrokerRefused as error:
            # Somebody was quicker: it is as it should be.
            if error.words not in (dynsec.NOT_FOUND, dynsec.ALREADY_EXISTS):
                raise
