"""Keeps the lease of the session slot: asks Postgres what `lease` demands, and tells the service what changed.

Promises: at most one question at a time, each with a limit of time; Postgres away is an event, not an error.
Raises Permanent if another process runs under this one's name: both would take the slot from one another for ever.
"""

import asyncio
import fcntl
import os
import secrets
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg

from control_plane.db.connect import connect, database_errors
from control_plane.db.queries import parse
from control_plane.ingest import events
from control_plane.ingest.lease import (
    Ask,
    Denied,
    Event,
    Granted,
    Lease,
    Row,
    Unanswered,
    certain,
    demand,
    may_write,
    pause_s,
    step,
)
from shared.clock import Clock
from shared.errors import Permanent, Transient

_SQL = parse(files("control_plane.ingest").joinpath("queries.sql").read_text(encoding="utf-8"))
_ASK_PART_OF_LEASE = 5  # a question may take a fifth of the lease time


class HolderName:
    """This instance's name, the same after a restart, and held by one process at a time on this machine."""

    def __init__(self, data_dir: Path, given: str | None) -> None:
        """`given` wins over the name that `data_dir` keeps. Raises Permanent if a living process has it."""
        folder = data_dir / "ingest"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(folder / "holder", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Permanent(f"{folder}: {error.strerror}", hint="HUB_DATA_DIR must be writable") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._file)
            raise Permanent(
                f"another ingest runs with the data directory {data_dir}", hint="give each a directory of its own"
            ) from error
        self.name = given or self._kept()

    def _kept(self) -> str:
        kept = os.pread(self._file, 128, 0).decode("ascii", "replace").strip()
        if not kept:
            kept = f"ingest-{secrets.token_hex(8)}"
            os.pwrite(self._file, kept.encode() + b"\n", 0)
            os.fsync(self._file)
        return kept

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)


class LeaseKeeper:
    """One process's hold on one slot. `run` keeps it; the rest may be asked at any time."""

    def __init__(self, database_url: str, slot: int, holder: str, lease_s: float, clock: Clock) -> None:
        self._url = database_url
        self._slot = slot
        self._clock = clock
        self._incarnation = secrets.token_hex(8)
        self._lease = Lease(holder, lease_s)
        self._timeout_s = lease_s / _ASK_PART_OF_LEASE
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._changed = asyncio.Condition()
        self._asking = asyncio.Lock()
        self._away_since_s: float | None = None
        self._standing_by = False
        self._released = False
        self._to_tell = False
        self._told = False
        self._news = asyncio.Event()

    @property
    def held(self) -> bool:
        """Whether the slot is ours as far as we know."""
        return self._lease.held

    def certain(self) -> bool:
        """Nobody else can hold the slot now."""
        return certain(self._lease, self._now_s())

    def may_write(self) -> bool:
        """Whether a connected holder may write now."""
        return may_write(self._lease, self._now_s())

    async def run(self) -> None:
        """Keep asking until cancelled or released; then the connection is closed. Raises Permanent."""
        try:
            while not self._released:
                self._news.clear()
                ask = demand(self._lease, self._now_s())
                if ask is not None:
                    await self._ask(ask)
                if self._to_tell and self.held:
                    await self._tell_subscribed()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._until_next_s()):
                        await self._news.wait()
        finally:
            await self._hang_up()

    async def wait(self, *, held: bool) -> None:
        """Until the slot is ours, or is not."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._lease.held is held)

    async def wait_until_writable(self) -> None:
        """Until `may_write`; each answer and each failure of Postgres is looked at."""
        async with self._changed:
            await self._changed.wait_for(self.may_write)

    async def confirm(self) -> None:
        """Before connecting again: until the slot is certainly ours, or certainly not. Reads it if it can."""
        await self._ask(Ask.RENEW)
        async with self._changed:
            await self._changed.wait_for(lambda: not self.held or self.certain())

    def subscribed(self) -> None:
        """The session has its subscriptions: the slot's row is to say so, once, as soon as Postgres answers.

        Registration waits for it, so that nobody gets a key to a broker at which nobody listens.
        """
        if not self._told:
            self._to_tell = True
            self._news.set()

    async def release(self) -> None:
        """Give the slot back for good, so that another takes it at once; if Postgres is away it runs out instead."""
        async with self._asking:
            self._released = True
            if not self.held:
                return
            try:
                await self._query("release", self._slot, self._lease.me, self._incarnation)
            except Transient as error:
                events.DatabaseAway(str(error)).emit()
                return
            self._lease = step(self._lease, Denied(self._now_s(), Row(None, 0)))
            events.LeaseReleased(self._slot).emit()

    def _now_s(self) -> float:
        return self._clock.boot_ms() / 1_000

    def _until_next_s(self) -> float:
        asked_s = self._lease.asked_s
        assert asked_s is not None
        return max(0.0, asked_s + pause_s(self._lease) - self._now_s())

    async def _ask(self, ask: Ask) -> None:
        async with self._asking:
            if self._released:
                return
            asked_s = self._now_s()
            before = self._lease
            event: Event
            try:
                event = await self._answer(ask, asked_s)
            except Transient as error:
                event = Unanswered(asked_s)
                self._database_away(str(error), asked_s)
                await self._hang_up()
            else:
                self._database_back(asked_s)
            self._lease = step(before, event)
            self._tell(before, event)
            async with self._changed:
                self._changed.notify_all()

    async def _tell_subscribed(self) -> None:
        async with self._asking:
            try:
                found = await self._query("subscribed", self._slot, self._lease.me, self._incarnation)
            except Transient as error:
                self._database_away(str(error), self._now_s())
                await self._hang_up()
                return  # with the next renewal again
        if found is not None:
            self._to_tell, self._told = False, True

    async def _answer(self, ask: Ask, asked_s: float) -> Granted | Denied:
        me = (self._slot, self._lease.me, self._incarnation)
        if ask is Ask.RENEW:
            granted = await self._query("renew", *me)
        else:
            watched = self._lease.watch.row.renewals if ask is Ask.TAKE_OVER and self._lease.watch else None
            granted = await self._query("take", *me, watched)
        if granted is not None:
            return Granted(asked_s)
        found = await self._query("look", self._slot)
        row = Row(None, 0) if found is None else Row(found["holder"], found["renewals"])
        if ask is Ask.RENEW and row.holder == self._lease.me:
            raise Permanent(
                f"another process holds slot {self._slot} under this one's name",
                hint="HUB_INGEST_HOLDER and HUB_DATA_DIR must be each instance's own",
            )
        return Denied(asked_s, row)

    async def _query(self, name: str, *arguments: object) -> asyncpg.Record | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await connect(self._url, application="hub-ingest")
                with database_errors():
                    return await self._connection.fetchrow(_SQL[name], *arguments)
        except TimeoutError as error:
            raise Transient(f"Postgres did not answer within {self._timeout_s:.1f} s") from error

    async def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _tell(self, before: Lease, event: Event) -> None:
        if self._lease.held and not before.held:
            self._standing_by = False
            events.LeaseTaken(self._slot, resumed=before.watch is None).emit()
        elif before.held and not self._lease.held:
            events.LeaseLost(self._slot).emit()
        if isinstance(event, Denied) and not self._standing_by:
            self._standing_by = True
            events.StandingBy(self._slot).emit()

    def _database_away(self, detail: str, now_s: float) -> None:
        if self._away_since_s is None:
            self._away_since_s = now_s
            events.DatabaseAway(detail).emit()

    def _database_back(self, now_s: float) -> None:
        if self._away_since_s is not None:
            events.DatabaseBack(round(now_s - self._away_since_s, 1)).emit()
            self._away_since_s = None
