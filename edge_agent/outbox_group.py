"""Submissions that will share one commit, and those who wait for it."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from edge_agent.dispatch import Submission


@dataclass(slots=True)
class Group:
    """In order of submission. `due`: when it is committed at the latest; `size`: bytes of its records."""

    submissions: list[Submission] = field(default_factory=list)
    futures: list[asyncio.Future[None]] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    due: float = 0.0

    def add(self, submission: Submission, future: asyncio.Future[None]) -> None:
        """One more; `future` is of the loop that `answer` is given."""
        self.submissions.append(submission)
        self.futures.append(future)
        self.rows += len(submission.rows) + len(submission.held)
        self.size += submission.size

    def answer(self, loop: asyncio.AbstractEventLoop | None, error: BaseException | None) -> None:
        """Tell all that it is durable, or why it is not; from any thread."""
        if self.futures and loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and with it who waited
                loop.call_soon_threadsafe(_resolve, self.futures, error)


def _resolve(futures: list[asyncio.Future[None]], error: BaseException | None) -> None:
    for future in futures:
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
