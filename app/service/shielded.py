"""Work under a lease runs in a task of its own, so that it does not end with its caller.

A caller may go away at any moment: a client hangs up, a held poll times out, a tick is cancelled.
If that cancelled the work, nobody could go on with it until its lease runs out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from serverless_fl.domain.errors import Busy

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
