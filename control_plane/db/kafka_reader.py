"""Ending a Kafka reader for good.

`AIOKafkaConsumer.stop` of aiokafka 0.14 cancels its fetching and waits for it. Where a new assignment has just been
given, the fetching waits for the requests of the old one, takes our cancellation for theirs, and goes on: `stop`
never returns. Said again, the word arrives. (fetcher.py, `_fetch_requests_routine`; the version is pinned.)
"""

import asyncio
from typing import Any

ASK_AGAIN_S = 0.5


async def stop_reader(consumer: Any) -> None:
    """Stop this AIOKafkaConsumer; returns when it has. Raises what its own `stop` raises."""
    stopping = asyncio.ensure_future(consumer.stop())
    while True:
        await asyncio.wait({stopping}, timeout=ASK_AGAIN_S)
        if stopping.done():
            stopping.result()
            return
        fetcher = consumer._fetcher
        if fetcher is not None and not fetcher._fetch_task.done() and fetcher._fetch_task.cancelling():
            fetcher._fetch_task.cancel()
