"""Work that does not end with its caller: whatever holds a lease runs in a task of its own.

A caller may go away at any moment: a reader hangs up, a held poll runs out, a tick is cancelled.
Were the work cancelled with it, its lease would lie with nobody until it runs out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from serverless_fl.domain.errors import Busy

T = TypeVar("T")
FINISH_SECONDS = 5.0  # which a process that stops gives the work to come to a cell's end


class Tasks:
    """The work under way in this process. `ending`: the process stops, so nothing more is begun."""

    def __init__(self) -> None:
        self.ending = False
        self._running: set[asyncio.Task[Any]] = set()

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """The work's result. If the caller is cancelled, the work goes on without it.

        Raises what the work raises, and Busy if the process stops before its end.
        """
        task = self.start(work)
        await asyncio.wait([task])  # which cancels nothing
        if task.cancelled():
            raise Busy("The coordinator stops: try again.")
        return task.result()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin work that nobody waits for."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # else asyncio says that nobody has asked for it

    async def close(self) -> None:
        """Let the work come to its end; cancel what takes too long. It gives its leases back."""
        self.ending = True
        if self._running:
            await asyncio.wait(self._running, timeout=FINISH_SECONDS)
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=FINISH_SECONDS)
