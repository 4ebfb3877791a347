"""The seam between what is trained and where: an engine runs jobs on a task and its data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from client_sdk.data.data import Data
from client_sdk.errors import TrainingFailed
from client_sdk.task.task import Task

T = TypeVar("T")


class Engine(Protocol):
    """Runs jobs, `job(task, data, *arguments)`, on the task and the data that it was given.

    A job is a function of its arguments, so any engine gives the same result. `start` comes first
    and returns at once, then `use`; `close` may come at any time, also twice. `workers` is how many
    jobs run at the same time. `run` raises what the job raises, and TrainingFailed where a worker
    died or where there is too little memory.
    """

    workers: int

    def start(self, data: Data) -> None: ...
    def use(self, task: Task) -> None: ...
    async def run(self, job: Callable[..., T], *arguments: Any) -> T: ...
    def close(self) -> None: ...


def limit_threads(number: int) -> None:
    """Let PyTorch use so many threads in this worker, if its task has imported PyTorch."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(number)


def lacks_memory(error: Exception) -> bool:
    """Whether a job found no memory. PyTorch's allocator raises a RuntimeError."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "memory" in str(error)
    )


def too_little_memory() -> TrainingFailed:
    """The error for `lacks_memory`."""
    return TrainingFailed(
        "Training needs more memory than there is: fewer --workers, a smaller --batch-size "
        "or a smaller --image-size need less."
    )
