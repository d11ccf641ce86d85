"""Opening the outbox at a start: finish or begin a salvage, notice a file of another time, restore the state.

Promises: the state returned has a fresh epoch. A file that is not the one that was used last (an old copy put back,
seen by the word kept beside it) has its batches dissolved: what it holds is sent anew under new numbers, since the
hub may have been told that the old ones are closed. The word is written with every start, so a copy is noticed unless
it is of the same start (then its numbers are still good).
"""

import os
from contextlib import suppress
from pathlib import Path

from edge_agent.notes import Say, emit
from edge_agent.outbox import Outbox, OutboxDamaged, prepare
from edge_agent.salvage import finish, salvage
from edge_agent.uplink_events import OutboxFull, OutboxOpened, OutboxReplaced, OutboxSalvaged
from edge_agent.uplink_state import Limits, State, restore
from shared.errors import Permanent, Transient
from shared.ids import new_epoch


def open_outbox(path: Path, bounds: Limits, *, now_s: float, wall_ms: int, say: Say = emit) -> tuple[Outbox, State]:
    """The open outbox and the uplink's state; `say` hears what the hub should know. Raises Transient or Permanent."""
    try:
        finish(path)
        try:
            outbox, state = _open(path, bounds, now_s, say)
        except OutboxDamaged as damage:
            mend_outbox(path, str(damage), wall_ms, say)
            outbox, state = _open(path, bounds, now_s, say)
    except OutboxDamaged as damage:
        raise Permanent(f"the outbox is damaged and its salvage too: {damage}") from damage
    except OSError as error:
        raise Transient(f"the outbox cannot be opened: {error}", hint="check disk space and rights") from error
    OutboxOpened(sum(state.ledger.waiting), len(state.batches)).emit()
    return outbox, state


def mend_outbox(path: Path, why: str, wall_ms: int, say: Say) -> None:
    """Salvage, and say so. Raises Transient; then the damaged file is as it was."""
    report = salvage(path, wall_ms)
    say(OutboxSalvaged(why, report.kept_as.name, report.rows, report.lost, report.at_most))


def _open(path: Path, bounds: Limits, now_s: float, say: Say) -> tuple[Outbox, State]:
    prepare(path)
    outbox = Outbox(path)
    try:
        _claim(outbox, path.with_name(path.name + ".lineage"), say)
        return outbox, restore(outbox.load(), new_epoch(), bounds, now_s)
    except BaseException:
        outbox.close()
        raise


def _claim(outbox: Outbox, word: Path, say: Say) -> None:
    last = word.read_text(encoding="utf-8").strip() if word.exists() else None
    known = {outbox.meta("lineage"), outbox.meta("lineage_next")} - {None}
    if known and last not in known:
        with outbox.transaction():
            outbox.dissolve()
        say(OutboxReplaced(sum(outbox.counted())))
    elif last is not None and not known:
        say(OutboxReplaced(0))
    fresh = new_epoch()
    try:
        # In three steps, so that a crash between any two leaves a word that the file knows.
        with outbox.transaction():
            outbox.set_meta("lineage_next", fresh)
        _write_durably(word, fresh)
        with outbox.transaction():
            outbox.set_meta("lineage", fresh)
    except (Transient, OSError) as error:
        # A full disk must not keep the agent from sending, which is what empties it.
        OutboxFull(f"no disk for the word of this start: {error}").emit()


def _write_durably(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
