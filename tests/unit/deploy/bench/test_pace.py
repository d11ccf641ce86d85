"""A count that grows is followed from where it stood."""

import asyncio
import itertools

import pytest

from deploy.bench.pace import followed
from shared.errors import Transient


async def test_it_counts_from_where_it_began():
    numbers = itertools.count(100)
    third = asyncio.Event()

    async def look():
        number = next(numbers)
        if number == 103:
            third.set()
        return number

    async with followed(look, every_s=0.0) as found:
        await asyncio.wait_for(third.wait(), 5)
        await asyncio.sleep(0)
        assert found.count >= 3


async def test_what_looking_raises_ends_the_block():
    answers = iter([1])

    async def look():
        for answer in answers:
            return answer
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        async with followed(look, every_s=0.0):
            await asyncio.sleep(5)


async def test_what_the_block_raises_is_raised_as_it_is():
    async def look():
        return 1

    with pytest.raises(Transient, match="not there"):
        async with followed(look):
            raise Transient("not there")
