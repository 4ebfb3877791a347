"""Training in the caller's own process: one job at a time, in a thread beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from client_sdk.data.data import Data
from client_sdk.engines.engine import lacks_memory, too_little_memory
from client_sdk.task.task import Task

T = TypeVar("T")


class InLine:
    """Needs nothing to be picklable: classes of a notebook, lambdas and open files will do.

    Choose it for small models, for notebooks, and to debug a task. It uses one core, or as many as
    the task's own library does.
    """

    workers = 1
    description = "training in this process"

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._task: Task | None = None
        self._data: Data | None = None

    def start(self, data: Data) -> None:
        """Keep the data by reference."""
        self._data = data
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="training")

    def use(self, task: Task) -> None:
        """Keep the task by reference."""
        self._task = task

    async def run(self, job: Callable[..., T], *arguments: Any) -> T:
        """Run a job in the thread."""
        assert self._thread is not None  # noqa: S101
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, job, self._task, self._data, *arguments)
        except (MemoryError, RuntimeError) as error:
            if not lacks_memory(error):
                raise
            raise too_little_memory() from error

    def close(self) -> None:
        """End the thread after the job that it runs."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None
