"""Broker equals Postgres: compared after each connect, when any API process asks (NOTIFY), and every ten minutes.

Promises: keys that should not be at the broker are removed, by command; keys that it lost are counted and announced,
since only its file and a start bring them back (`hub broker-file`). One process at a time does this (`leader`).
"""

import asyncio
import dataclasses
from datetime import timedelta

import msgspec

from control_plane.db.connect import connect, database_errors
from control_plane.registry import dynsec, events
from control_plane.registry.broker import Broker, BrokerRefused
from control_plane.registry.dynsec import BrokerRecord, Command
from control_plane.registry.projection import KeyState, Repair, compare
from control_plane.registry.store import Store
from shared.errors import HubError, Transient

CHANNEL = "registry_reconcile"
_EVERY_S = 600.0
_RETRY_S = 5.0
_PAGE = 500
_ASKED_AGAIN = 200
UNFINISHED = timedelta(minutes=5)
"""A registration that is older than this and unfinished will not be finished: its request has long been answered."""
CLAIMS = timedelta(hours=24)
"""How long an Idempotency-Key is remembered."""


class Reconciler:
    """`wake` asks for a comparison; `serve` does them."""

    def __init__(self, store: Store, broker: Broker, database_url: str) -> None:
        self._store = store
        self._broker = broker
        self._database_url = database_url
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
        while True:
            pause_s = _EVERY_S
            try:
                async with asyncio.timeout(_EVERY_S):
                    await self._asked.wait()
            except TimeoutError:
                pass
            self._asked.clear()
            try:
                await self.run()
                continue
            except HubError as error:
                events.ReconcileFailed(str(error)).emit()
                pause_s = _RETRY_S
            await asyncio.sleep(pause_s)
            self._asked.set()

    async def run(self) -> Repair:
        """One comparison and its repairs; what it found. Raises Transient or Permanent."""
        await self._store.sweep(unfinished=UNFINISHED, claims=CLAIMS)
        records = await self._records()
        repair = compare(await self._store.broker_keys(), records)
        for name in repair.delete:
            await self._do(dynsec.delete_client(name))
        for name in repair.disable:
            await self._do(dynsec.disable_client(name))
        for name in repair.enable:
            await self._do(dynsec.enable_client(name))
        missing = await self._really_missing(repair.missing)
        self.missing = len(missing)
        events.BrokerReconciled(
            records=len(records),
            deleted=len(repair.delete),
            disabled=len(repair.disable),
            enabled=len(repair.enable),
            missing=len(missing),
            withheld=len(repair.withheld),
        ).emit()
        if missing:
            events.BrokerRecordsMissing(len(missing)).emit()
        if repair.withheld:
            events.BrokerRecordsUnknown(len(repair.withheld)).emit()
        return dataclasses.replace(repair, missing=missing)

    async def _records(self) -> list[BrokerRecord]:
        records: list[BrokerRecord] = []
        while True:
            answer = await self._broker.command(dynsec.list_clients(_PAGE, len(records)))
            try:
                page = dynsec.decode_page(answer)
            except msgspec.DecodeError as error:
                raise Transient(f"the broker's list of clients cannot be read: {error}") from error
            records += page.records
            if not page.records or len(records) >= page.total:
                return records

    async def _really_missing(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Without those that came after the list was taken, or stood at a page's edge that moved."""
        if len(names) > _ASKED_AGAIN:
            return names
        missing = []
        for name in names:
            try:
                await self._broker.command(dynsec.get_client(name))
            except BrokerRefused:
                missing.append(name)
        # What ended while we asked is not missed either.
        keys = await self._store.broker_keys() if missing else {}
        return tuple(name for name in missing if name in keys and keys[name].state is KeyState.HELD)

    async def _do(self, command: Command) -> None:
        try:
            await self._broker.command(command)
        except BrokerRefused as error:
            if error.words != dynsec.NOT_FOUND:  # else somebody was quicker: it is as it should be
                raise
