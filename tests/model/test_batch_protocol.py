"""The agent's half of the batch protocol against a random world and a normaliser written from the text alone.

Crashes between save and do, in the middle of a write and of a start; links that flap and lose what was sent; lost and
late acknowledgements; prefixes delivered again; brokers killed and restored to an old state or without ingest's
session, or refusing; full disks; lanes, many epochs, hints; damage; copies of the outbox put back. After every step:
the ledger balances and equals the file, no false gap, nothing doubled, everything bounded; at the end everything
accepted came out, in order per lane.
`MODEL_SEEDS` and `MODEL_STEPS` make it longer (2,000 seeds a world: some twenty minutes).

Each of these was put into the code once and died here:
freed when sent · freed when refused · not sent again after a reconnect · the overtaken and the oldest never sent
again · an epoch closed while batches wait · its last number one too low or too high · floor one too high · the
epoch kept over a restart, with or without its numbers · a closing taken for told though not every copy told it, or
by a batch of an earlier start · a closing told for ever · new batches before what must be sent again · live from
rows of before the connection · the connection's beginning not marked · the newest rows first · a connection's end
forgotten · the window not held · the state moved though the commit failed · acknowledged rows not counted · the
saved ledger without the rows still there · an epoch deleted before its batches · spans merged over a batch · spans
never merged · a copy of another time not noticed · void numbers passed by the floor · voids not told · a batch that
lost some rows taken for void · unreadable descriptions taken for acknowledged ones · an unknown last number
guessed · a batch that nobody heard sent again after those that came later · more than one in flight before the hub
was heard.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from shared import limits
from tests.model.batch_world import Memory, World
from tests.model.sqlite_disk import SqliteDisk

SEEDS = int(os.environ.get("MODEL_SEEDS", "60"))
STEPS = int(os.environ.get("MODEL_STEPS", "400"))
WORLDS = {
    "orderly": {"lossy": False, "copies": False, "damage": False, "forgetful": False},
    "forgetful": {"lossy": False, "copies": False, "damage": False},
    "lossy": {"lossy": True, "copies": False, "damage": False},
    "copies": {"lossy": True, "copies": True, "damage": False},
    "all": {"lossy": True, "copies": True, "damage": True},
}


def run(world: World, steps: int) -> None:
    try:
        for _ in range(steps):
            world.step()
        world.settle()
    except BaseException as error:
        error.add_note("…" + " ".join(world.trace[-60:]))
        raise


@pytest.fixture(autouse=True)
def _few_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few that the rule of floor + window is met; the real 1,024 never would be."""
    monkeypatch.setattr(limits, "WINDOW_NUMBERS", 17)


@pytest.mark.parametrize("kind", WORLDS)
def test_nothing_is_lost_doubled_or_falsely_missed(kind: str) -> None:
    for seed in range(SEEDS):
        try:
            run(World(seed, Memory(), **WORLDS[kind]), STEPS)
        except BaseException as error:
            error.add_note(f"world {kind}, seed {seed}")
            raise


@pytest.mark.parametrize("kind", ["forgetful", "lossy", "copies"])
def test_the_same_holds_for_the_real_outbox(kind: str) -> None:
    # In memory where that can be had: it is about what is written, not how fast a disk syncs.
    shm = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(dir=shm if os.access(shm, os.W_OK) else None))
    try:
        for seed in range(max(1, SEEDS // 4)):
            (directory / str(seed)).mkdir()
            with SqliteDisk(directory / str(seed)) as disk:
                try:
                    run(World(seed, disk, **WORLDS[kind]), STEPS // 2)
                except BaseException as error:
                    error.add_note(f"world {kind}, seed {seed}")
                    raise
    finally:
        shutil.rmtree(directory)
