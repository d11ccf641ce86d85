import asyncio

import pytest

from edge_agent.dispatch import Submission
from edge_agent.outbox_group import Group
from shared.errors import Transient
from tests.unit.edge_agent.outbox_files import row


async def test_all_who_wait_are_told_from_another_thread_and_who_left_is_not_missed():
    loop = asyncio.get_running_loop()
    group = Group()
    futures = [loop.create_future() for _ in range(3)]
    for future in futures:
        group.add(Submission([row(1), row(2)], []), future)
    futures[1].cancel()
    await asyncio.to_thread(group.answer, loop, None)
    assert await futures[0] is None
    assert await futures[2] is None
    assert (group.rows, group.size) == (6, 3 * (len(row(1).record) + len(row(2).record)))


async def test_an_error_reaches_all_who_wait():
    loop = asyncio.get_running_loop()
    group = Group()
    future = loop.create_future()
    group.add(Submission([row(1)], []), future)
    await asyncio.to_thread(group.answer, loop, Transient("full"))
    with pytest.raises(Transient, match="full"):
        await future


def test_a_loop_that_has_ended_waits_for_nothing():
    loop = asyncio.new_event_loop()
    group = Group()
    group.add(Submission([row(1)], []), loop.create_future())
    loop.close()
    group.answer(loop, None)
    Group().answer(None, None)
