"""Who is next at the broker, whoever gives up and whenever."""

import asyncio
import random
import time

import pytest

from control_plane.registry.turns import Lane, Turns


async def settle() -> None:
    """Everything that can run has run."""
    for _ in range(10):
        await asyncio.sleep(0)


class Line:
    """Tasks that take a turn each, and the order in which they had it. `hold` keeps the first turn."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.order: list[str] = []
        self.inside = 0
        self.most_inside = 0

    def take(self, name: str, lane: Lane, *, pause_s: float = 0.0) -> "asyncio.Task[None]":
        async def one() -> None:
            async with self.turns.turn(lane):
                self.order.append(name)
                self.inside += 1
                self.most_inside = max(self.most_inside, self.inside)
                try:
                    await asyncio.sleep(0)
                finally:
                    self.inside -= 1
                if pause_s:
                    self.turns.pause(pause_s)

        return asyncio.create_task(one())

    async def hold(self) -> asyncio.Event:
        """Somebody has the turn until the event is set."""
        free = asyncio.Event()
        has = asyncio.Event()

        async def one() -> None:
            async with self.turns.turn(Lane.ASKED):
                has.set()
                await free.wait()

        self.holder = asyncio.create_task(one())
        await has.wait()
        return free


async def test_in_order_of_arrival_and_one_at_a_time() -> None:
    line = Line()
    await asyncio.gather(*(line.take(str(number), Lane.ASKED) for number in range(50)))
    assert line.order == [str(number) for number in range(50)]
    assert line.most_inside == 1


async def test_a_revocation_behind_five_hundred_is_the_very_next() -> None:
    line = Line()
    free = await line.hold()
    rest = [line.take(f"rotation {number}", Lane.PATIENT) for number in range(500)]
    rest += [line.take(f"registration {number}", Lane.ASKED) for number in range(500)]
    await settle()
    revocation = line.take("revocation", Lane.URGENT)
    await settle()
    assert line.turns.waiting(Lane.PATIENT) == 500
    free.set()
    await revocation
    await asyncio.gather(*rest)
    assert line.order[0] == "revocation"
    assert len(line.order) == 1_001


async def test_a_revocation_keeps_no_pause_and_leaves_it_to_the_others() -> None:
    line = Line()
    await line.take("first", Lane.ASKED, pause_s=0.3)
    started = time.monotonic()
    waiting = line.take("ordinary", Lane.ASKED)
    await settle()
    await line.take("revocation", Lane.URGENT)
    assert time.monotonic() - started < 0.2
    assert line.order == ["first", "revocation"]
    await waiting
    assert time.monotonic() - started >= 0.25
    assert line.order[-1] == "ordinary"


async def test_those_who_wait_for_an_answer_go_first_but_not_for_ever() -> None:
    line = Line()
    free = await line.hold()
    tasks = [line.take("patient", Lane.PATIENT) for _ in range(3)]
    tasks += [line.take("asked", Lane.ASKED) for _ in range(6)]
    await settle()
    free.set()
    await asyncio.gather(*tasks)
    assert line.order == ["asked"] * 2 + ["patient"] + ["asked"] * 3 + ["patient"] + ["asked"] + ["patient"]


@pytest.mark.parametrize("lane", list(Lane))
async def test_who_gives_up_at_the_moment_of_the_grant_passes_it_on(lane: Lane) -> None:
    """The turn was given, the task has not run since, and is cancelled: nobody has the turn then."""
    line = Line()
    free = await line.hold()
    given_up = line.take("given up", lane)
    after = line.take("after", Lane.PATIENT)
    await settle()
    free.set()
    await asyncio.sleep(0)
    assert line.holder.done()
    assert line.turns._busy
    assert line.order == []
    given_up.cancel()
    async with asyncio.timeout(5):
        await after
    assert line.order == ["after"]
    assert given_up.cancelled()


async def test_who_gives_up_while_waiting_is_left_out() -> None:
    line = Line()
    free = await line.hold()
    tasks = [line.take(str(number), Lane.ASKED) for number in range(5)]
    await settle()
    for number in (0, 2, 4):
        tasks[number].cancel()
    await settle()
    assert line.turns.waiting(Lane.ASKED) == 2
    free.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert line.order == ["1", "3"]


async def test_a_turn_that_ends_by_an_error_or_a_cancellation_is_passed_on() -> None:
    line = Line()
    with pytest.raises(ZeroDivisionError):
        async with line.turns.turn(Lane.URGENT):
            raise ZeroDivisionError
    await line.hold()
    after = line.take("after", Lane.ASKED)
    await settle()
    line.holder.cancel()
    async with asyncio.timeout(5):
        await after


@pytest.mark.parametrize("seed", range(8))
async def test_whoever_gives_up_whenever_all_others_have_their_turn(seed: int) -> None:
    """Random arrivals, pauses and cancellations: no wake-up is lost, no two have the turn at once."""
    chance = random.Random(seed)
    line = Line()
    tasks: list[asyncio.Task[None]] = []
    cancelled = 0
    for number in range(300):
        pause_s = chance.choice([0, 0, 0, 0.001])
        tasks.append(line.take(str(number), chance.choice(list(Lane)), pause_s=pause_s))
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            cancelled += chance.choice(tasks).cancel()
    async with asyncio.timeout(10):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert line.most_inside == 1
    done = {str(number) for number, result in enumerate(results) if result is None}
    assert done <= set(line.order)
    assert len(done) >= 300 - cancelled
    assert not any(line.turns.waiting(lane) for lane in Lane)
    await line.take("at the end", Lane.PATIENT)
