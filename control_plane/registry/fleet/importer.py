"""Many devices at once: judged and written in batches, each by a handful of statements.

Promises: a line is judged as a single registration is. `per_line`: what is good is registered batch by batch;
`all_or_nothing`: one refused line and nothing is. Without keys a device is there when its batch is committed. With
keys nobody sees a device before the broker holds its key: they enter by one restart of the broker for all; a crash
before that leaves nothing that stands in the way (unfinished registrations are swept), and secrets are kept nowhere.
"""

import asyncio
import json
import secrets as random_bytes
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib.resources import files
from itertools import islice

from control_plane.db import queries
from control_plane.db.connect import Connection, Pool, acquire
from control_plane.registry import dynsec, journal, lifecycle_event
from control_plane.registry.fleet.import_lines import Bad, Wanted
from control_plane.registry.lifecycle_event import Change
from shared import ids
from shared.authority import Actor
from shared.config import Secret
from shared.device import DeviceView, Limits, Ownership, Status, encode_view
from shared.errors import Transient
from shared.topics import Kafka

_SQL = queries.parse((files(__package__) / "importer.sql").read_text(encoding="utf-8"))
BATCH = 1_000
BREATH = 25
"""Lines read between two looks at what else the process has to do."""
LINES = 1_000_000
LINES_AT_ONCE = 200_000
LINES_WITH_KEYS = 100_000
"""The most lines of one import; as a whole and with keys fewer, because they are in memory until they are shown."""
ANALYZED_FROM = 10_000
"""So many new devices change what the planner should know of the table."""
_STAGED = ("line", "id", "serial", "type", "kind", "gateway_id", "labels", "location", "limits", "pseudonym",
           "key_id", "hash")  # fmt: skip
_OUTBOX = ("topic", "key", "value", "ce_id", "ce_type")
_WORDS = {
    "id-taken": ("a device with this id is registered already", "/id"),
    "serial-taken": ("a device of this type with this serial is registered already", "/serial"),
    "gateway-unknown": ("no gateway with this id is registered", "/gateway_id"),
    "gateway-behind-gateway": ("a gateway is not behind another gateway", "/gateway_id"),
    "twice": ("an earlier line has this id, or this serial of this type", None),
    "overtaken": ("another registration took its place meanwhile", None),
    "too-many": (
        (
            f"an import has at most {LINES} lines, as a whole {LINES_AT_ONCE}, with keys {LINES_WITH_KEYS}; "
            "this line and the ones behind it were not read"
        ),
        None,
    ),
}


class Mode(StrEnum):
    """What a refused line means for the others."""

    ALL_OR_NOTHING = "all_or_nothing"
    PER_LINE = "per_line"


@dataclass(frozen=True, slots=True)
class Created:
    """A line that is a device now; `api_key` is shown this once."""

    line: int
    id: str
    api_key: Secret | None = None


@dataclass(slots=True)
class Progress:
    """How far an import is. `created` counts what will be there if nothing fails from here on."""

    lines: int = 0
    created: int = 0
    refused: int = 0


Report = Created | Bad | Progress
"""What an import says, line by line; a Progress after each batch."""


@dataclass(slots=True)
class _Staged:
    """One line on its way."""

    line: int
    row: tuple[object, ...]
    view: DeviceView
    api_key: Secret | None


@dataclass(slots=True)
class _Batch:
    """Lines that are written together."""

    lines: int
    refused: list[Bad] = field(default_factory=list)
    staged: dict[int, _Staged] = field(default_factory=dict)


@dataclass(slots=True)
class _Run:
    """One import under way; `at`: from when on gateways speak for its devices."""

    mode: Mode
    keys: bool
    actor: Actor
    number: str
    at: datetime
    read: int = 0
    ended: bool = False
    progress: Progress = field(default_factory=Progress)
    seen: set[int] = field(default_factory=set)
    arriving: list[_Staged] = field(default_factory=list)
    created: list[Created] = field(default_factory=list)

    @property
    def most(self) -> int:
        """How many lines it may have."""
        if self.keys:
            return LINES_WITH_KEYS
        return LINES if self.mode is Mode.PER_LINE else LINES_AT_ONCE

    @property
    def doomed(self) -> bool:
        """All or nothing, and it is nothing."""
        return self.mode is Mode.ALL_OR_NOTHING and self.progress.refused > 0


class Importer:
    """`enter` has the broker take all keys that wait (`Rebuild.imported`); `pseudonym`: of a device id."""

    def __init__(
        self, database: Pool, pseudonym: Callable[[str], str], enter: Callable[[Actor], Awaitable[object]]
    ) -> None:
        self._database = database
        self._pseudonym = pseudonym
        self._enter = enter
        self._busy = asyncio.Lock()

    async def run(
        self, lines: Iterator[Wanted | Bad], *, mode: Mode, keys: bool, actor: Actor
    ) -> AsyncIterator[Report]:
        """Report line by line. Raises Transient if a server is away or another import runs: in mode `per_line` what
        was reported as created stays.
        """
        if self._busy.locked():
            raise Transient("another import is under way", hint="wait for its end")
        async with self._busy, acquire(self._database) as db:
            await db.execute(_SQL["stage"])
            at: datetime = await db.fetchval(_SQL["now"])
            # Whole milliseconds: what Kafka is told and what the view says must not differ by rounding.
            at = at.replace(microsecond=at.microsecond // 1_000 * 1_000)
            run = _Run(mode, keys, actor, ids.new_device_id(), at)
            async with _at_once(db, mode):
                async for report in self._read(db, lines, run):
                    yield report
                if run.doomed:
                    raise _Undo
            if not run.doomed:
                async for report in self._give_out(db, run):
                    yield report
            if run.progress.created >= ANALYZED_FROM and not run.doomed:
                await db.execute(_SQL["analyze"], timeout=None)

    async def _read(self, db: Connection, lines: Iterator[Wanted | Bad], run: _Run) -> AsyncIterator[Report]:
        """Two batches at a time: while the database writes one, the next is read."""
        writing: asyncio.Task[_Batch] | None = None
        try:
            while True:
                batch = await self._next(lines, run)
                if writing is not None:
                    for report in _reported(await writing, run):
                        yield report
                    yield run.progress
                if batch is None:
                    return
                writing = asyncio.create_task(_write(db, batch, run))
        finally:
            if writing is not None and not writing.done():
                writing.cancel()
                await asyncio.wait([writing])

    async def _next(self, lines: Iterator[Wanted | Bad], run: _Run) -> "_Batch | None":
        found = await _some(lines)
        if not found or run.ended:
            return None
        batch = _Batch(len(found))
        if run.read + len(found) > run.most:
            run.ended = True
            found = found[: run.most - run.read]
            batch.refused.append(_refused(run.most + 1, "too-many"))
        run.read += len(found)
        for item in found:
            made = self._staged(item, run) if isinstance(item, Wanted) else item
            if isinstance(made, Bad):
                batch.refused.append(made)
            else:
                batch.staged[made.line] = made
        if not run.keys:
            run.seen.clear()  # the database has them by the time that it judges the next batch
        return batch

    def _staged(self, item: Wanted, run: _Run) -> _Staged | Bad:
        device = item.device
        device_id = device.id or ids.new_device_id()
        names = (hash(device_id), hash((device.type, device.serial)))
        if not run.seen.isdisjoint(names):
            return _refused(item.line, "twice")
        if device.gateway_id and device.kind == "gateway":
            return _refused(item.line, "gateway-behind-gateway")
        run.seen.update(names)
        key_id = hashed = api_key = None
        if run.keys:
            key_id, secret = ids.new_key_id(), ids.new_secret()
            hashed = dynsec.hash_secret(secret, random_bytes.token_bytes(dynsec.SALT_BYTES))
            api_key = Secret(f"{key_id}.{secret}")
        limits = device.limits.model_dump(exclude_none=True) if device.limits else {}
        location = device.location.model_dump(exclude_none=True) if device.location else {}
        owner = (Ownership(device.gateway_id, round(run.at.timestamp() * 1_000)),) if device.gateway_id else ()
        view = DeviceView(
            device_id, device.kind, device.type, Status.PROVISIONED, 1, owner, Limits(**limits) if limits else None
        )
        row = (
            item.line, device_id, device.serial, device.type, device.kind.value, device.gateway_id,
            json.dumps(device.labels) if device.labels else "{}", json.dumps(location) if location else None,
            json.dumps(limits) if limits else None, self._pseudonym(device_id), key_id, hashed,
        )  # fmt: skip
        return _Staged(item.line, row, view, api_key)

    async def _give_out(self, db: Connection, run: _Run) -> AsyncIterator[Report]:
        """What waited for the end: lines of an import as a whole, and devices with keys once the broker has them."""
        for done in run.created:
            yield done
        if not run.arriving:
            return
        names = [item.view.id for item in run.arriving]
        try:
            await self._enter(run.actor)
            size = BATCH if run.mode is Mode.PER_LINE else len(names)
            arriving = iter(run.arriving)
            while batch := list(islice(arriving, size)):
                there = await _finish(db, batch, run)
                for item in batch:
                    if item.view.id in there:
                        yield Created(item.line, item.view.id, item.api_key)
                    else:
                        run.progress.created -= 1
                        run.progress.refused += 1
                        yield _refused(item.line, "overtaken")
        except BaseException:
            await db.execute(_SQL["abandon"], names)
            raise


class _Undo(Exception):  # noqa: N818 - leaves a transaction that is to be undone
    pass


@asynccontextmanager
async def _at_once(db: Connection, mode: Mode) -> AsyncIterator[None]:
    """One transaction around all batches, or none."""
    try:
        async with AsyncExitStack() as stack:
            if mode is Mode.ALL_OR_NOTHING:
                await stack.enter_async_context(db.transaction())
            yield
    except _Undo:
        pass


async def _some(lines: Iterator[Wanted | Bad]) -> list[Wanted | Bad]:
    found: list[Wanted | Bad] = []
    while len(found) < BATCH:
        part = list(islice(lines, BREATH))
        found += part
        if len(part) < BREATH:
            break
        await asyncio.sleep(0)  # an import must not hold up what else this process answers
    return found


def _reported(batch: _Batch, run: _Run) -> Iterator[Report]:
    """What became of a batch."""
    run.progress.lines += batch.lines
    run.progress.refused += len(batch.refused)
    run.progress.created += len(batch.staged)
    yield from sorted(batch.refused, key=lambda bad: bad.line)
    if run.keys:
        run.arriving += batch.staged.values()
        return
    created = [Created(item.line, item.view.id) for item in batch.staged.values()]
    if run.mode is Mode.ALL_OR_NOTHING:
        run.created += created
    else:
        yield from created


async def _write(db: Connection, batch: _Batch, run: _Run) -> _Batch:
    """Judge and write what is staged, in one transaction; whoever is refused leaves `staged`."""
    if not batch.staged:
        return batch
    async with db.transaction():
        await db.execute(_SQL["clear"])
        rows = [item.row for item in batch.staged.values()]
        await db.copy_records_to_table("import_lines", records=rows, columns=_STAGED)
        taken = await db.fetch(_SQL["taken"])
        await _drop(db, batch, [_refused(row["line"], row["why"]) for row in taken])
        homeless = await db.fetch(_SQL["no_gateway"], run.keys)
        await _drop(db, batch, [_refused(row["line"], "gateway-unknown") for row in homeless])
        if await db.fetchval(_SQL["unfinished"]):  # lines of this import are no two of one id or serial
            await db.execute(_SQL["replace_unfinished"])
        await db.execute(_SQL["insert_types"])
        made = {row["id"] for row in await db.fetch(_SQL["insert_devices"], not run.keys)}
        lost = [line for line, item in batch.staged.items() if item.view.id not in made]
        await _drop(db, batch, [_refused(line, "overtaken") for line in lost])
        await db.execute(_SQL["insert_ownership"], run.at)
        if run.keys:
            await db.execute(_SQL["insert_keys"])
        else:
            await _outbox(db, [item.view for item in batch.staged.values()])
            await _audit(db, run, len(batch.staged))
    return batch


async def _drop(db: Connection, batch: _Batch, refused: Sequence[Bad]) -> None:
    if refused:
        await db.execute(_SQL["drop_lines"], [bad.line for bad in refused])
        batch.refused += refused
        for bad in refused:
            del batch.staged[bad.line]


async def _finish(db: Connection, batch: Sequence[_Staged], run: _Run) -> set[str]:
    """Make devices visible whose keys the broker holds now; who they are."""
    async with db.transaction():
        there = {row["id"] for row in await db.fetch(_SQL["finish"], [item.view.id for item in batch])}
        if run.mode is Mode.ALL_OR_NOTHING and len(there) < len(batch):
            raise Transient("another registration took a line's place, so nothing was registered", hint="try again")
        # Nobody saw them, so nobody changed them: they are as they were staged.
        await _outbox(db, [item.view for item in batch if item.view.id in there])
        await _audit(db, run, len(there))
    return there


async def _outbox(db: Connection, views: Sequence[DeviceView]) -> None:
    rows: list[tuple[str, str, bytes, str, str]] = []
    for view in views:
        name = f"{view.id}:{view.version}"
        event = lifecycle_event.encode(view, Change.REGISTERED)
        rows.append((Kafka.REGISTRY.value, view.id, encode_view(view), name, lifecycle_event.VIEW_TYPE))
        rows.append((Kafka.LIFECYCLE.value, view.id, event, f"{name}:{Change.REGISTERED}", lifecycle_event.TYPE))
    await db.copy_records_to_table("registry_outbox", records=rows, columns=_OUTBOX)


async def _audit(db: Connection, run: _Run, devices: int) -> None:
    if devices:
        detail = {"devices": devices, "keys": run.keys, "mode": run.mode.value}
        await journal.audit(db, run.actor, "device.import", f"import:{run.number}", detail)


def _refused(line: int, why: str) -> Bad:
    detail, pointer = _WORDS[why]
    return Bad(line, why, detail, pointer)
