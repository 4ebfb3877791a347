"""A cohort trained as one model with a client dimension, in the caller's own process.

A step of a small network keeps a GPU busy for a few microseconds, and starting it takes longer. One
step for all clients of a round starts once (`client_sdk.task.together`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from client_sdk.data.data import Data
from client_sdk.engines.in_line import InLine
from client_sdk.task.local import train_client, train_clients
from client_sdk.task.task import LocalUpdate, NotTogether, Task

T = TypeVar("T")

GATHER_SECONDS = 0.1  # without another client's job, until those that came are trained

MOST_AT_ONCE = 100  # clients in one model, before memory says otherwise


def reason_against(task: Task, data: Data) -> str:
    """Why clients of this task cannot be trained as one model; empty where they can."""
    try:
        task.require_together(data)
    except NotTogether as error:
        return str(error)
    except Exception as error:  # the training says it in the user's words
        return f"a first step raises {type(error).__name__}"
    return ""


class Batched:
    """Trains up to `at_once` clients as one model, usually those of a round.

    Choose it where there is a GPU and the model is small; on a CPU it is slower than processes.
    Tasks that cannot be trained so train one client after another, and `description` says why. The
    updates are those of other engines to a tolerance, and the same bytes each time on one machine;
    on a GPU that holds while `deterministic` stays, which some networks do not allow.
    """

    def __init__(self, at_once: int = 10, *, deterministic: bool = True) -> None:
        self.workers = at_once
        self.deterministic = deterministic
        self._reason = ""
        self._inner = InLine()
        self._data: Data | None = None
        self._waiting: list[tuple[Sequence[Any], asyncio.Future[Any]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._groups: set[asyncio.Task[None]] = set()

    @property
    def description(self) -> str:
        """How clients are trained, in words."""
        if self._reason:
            return f"one client after another, because {self._reason}"
        return f"up to {self.workers} clients as one model"

    def start(self, data: Data) -> None:
        """Keep the data by reference."""
        # cuBLAS reads it when it starts; without it PyTorch refuses to be deterministic.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self._data = data
        self._inner.start(data)

    def use(self, task: Task) -> None:
        """Keep the task by reference, and find out whether it can be trained as one model."""
        self._inner.use(task)
        assert self._data is not None  # noqa: S101
        self._reason = reason_against(task, self._data)

    async def run(self, job: Callable[..., T], *arguments: Any) -> T:
        """Run a job in a thread; a client's training waits for those of others."""
        if job is not train_client or self._reason:
            return await self._inner.run(job, *arguments)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((arguments, future))
        if self._timer is not None:
            self._timer.cancel()
        if len(self._waiting) >= self.workers:
            self._start_group()
        else:
            self._timer = loop.call_later(GATHER_SECONDS, self._start_group)
        found: T = await future
        return found

    def _start_group(self) -> None:
        """Train the clients that wait."""
        self._timer = None
        waiting = sorted(
            (one for one in self._waiting if not one[1].done()), key=lambda one: str(one[0][0])
        )
        self._waiting = []
        if waiting:
            group = asyncio.get_running_loop().create_task(self._train_group(waiting))
            self._groups.add(group)
            group.add_done_callback(self._groups.discard)

    async def _train_group(self, waiting: list[tuple[Sequence[Any], asyncio.Future[Any]]]) -> None:
        try:
            await self._train(waiting)
        finally:
            for _, future in waiting:
                future.cancel()  # those that have no result: this task was cancelled

    async def _train(self, waiting: list[tuple[Sequence[Any], asyncio.Future[Any]]]) -> None:
        """Train a group, and where that fails each client alone: the fault may be that of one."""
        orders = [arguments for arguments, _ in waiting]
        try:
            found = await self._inner.run(_train_clients, orders, self.workers, self.deterministic)
        except Exception as error:
            for arguments, future in waiting:
                await self._train_alone(arguments, future)
            if not any(future.cancelled() or future.exception() for _, future in waiting):
                self._reason = str(error)  # no client is at fault
            return
        for (_, future), update in zip(waiting, found, strict=True):
            if not future.done():
                future.set_result(update)

    async def _train_alone(self, arguments: Sequence[Any], future: asyncio.Future[Any]) -> None:
        try:
            update = await self._inner.run(train_client, *arguments)
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(update)

    def close(self) -> None:
        """End the thread after the job that it runs."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._inner.close()


def _train_clients(
    task: Task, data: Data, orders: Sequence[Sequence[Any]], at_once: int, exact: bool
) -> list[LocalUpdate]:
    """The job of a group. PyTorch is imported only where a task needs it."""
    if not exact:
        return train_clients(task, data, orders, at_once)
    from client_sdk.task.together import deterministic

    with deterministic():
        return train_clients(task, data, orders, at_once)
