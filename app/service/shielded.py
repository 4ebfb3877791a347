"""Work in tasks of its own: work under a lease, and what a server repeats beside its requests.

A caller may go away at any moment: a client hangs up, a held poll times out, a tick is cancelled.
If that cancelled the work under a lease, nobody could go on with it until its lease runs out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from app.telemetry import ids
from app.telemetry.logs import ERROR, log_event
from serverless_fl.domain.errors import Busy, CoordinatorError

T = TypeVar("T")
FINISH_SECONDS = 5.0  # a process that stops waits so long for the work to finish its task


class Tasks:
    """The work under way in this process. `ending`: the process stops and begins no more work."""

    def __init__(self) -> None:
        self.ending = False
        self._running: set[asyncio.Task[Any]] = set()

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for the work, and return its result. If the caller is cancelled, the work goes on.

        Raises what the work raises, and Busy if the process stops before the work's end.
        """
        task = self.start(work)
        await asyncio.wait([task])  # `wait` does not cancel the task
        if task.cancelled():
            raise Busy("The coordinator stops: try again.")
        return task.result()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin work, and do not wait for it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # else asyncio logs that nobody retrieved it

    async def close(self) -> None:
        """Wait for the work, then cancel what is left of it: cancelled work releases its leases."""
        self.ending = True
        if self._running:
            await asyncio.wait(self._running, timeout=FINISH_SECONDS)
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=FINISH_SECONDS)


@asynccontextmanager
async def repeating(
    turn: Callable[[], Awaitable[object]], failed: str, level: int
) -> AsyncIterator[None]:
    """Take one turn after the other beside the block, which ends the last one.

    A turn that fails is an event of the log, with this level if the coordinator raises it.
    """

    async def turns() -> None:
        while True:
            try:
                with ids.belonging_to():
                    await turn()
            except CoordinatorError as error:
                log_event(failed, level, cause=error.message)
            except Exception as error:  # the next turn may succeed
                log_event(failed, ERROR, error=error)

    task = asyncio.create_task(turns())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
