"""A participant's trainer: a task, the data and an engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Self, TypeVar

from client_sdk.data.data import Data
from client_sdk.engines.engine import Engine
from client_sdk.task import weights_file
from client_sdk.task.agreeing import require_no_other
from client_sdk.task.local import evaluate_client, fine_tune_client, train_client
from client_sdk.task.task import Evaluation, LocalUpdate, Task
from serverless_fl.wire.turns import Train, Training

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")


class LocalTrainer:
    """Trains and measures clients of one data set. Use it as a context manager.

    Entering calls `start` and `prepare`. A caller that has something else to do while processes
    start calls them itself. `loop` says in words what trains, once the trainer is prepared.
    """

    loop = ""

    def __init__(self, task: Task, data: Data, engine: Engine) -> None:
        self.task, self.data, self.engine = task, data, engine
        self._compared: bytes | None = None  # the header of a model that is of this task
        self._comparing = threading.Lock()  # so that clients at the same moment compare once

    def start(self) -> None:
        """Start the engine, which returns at once; once. Raises DataError, BadSettings."""
        self.engine.start(self.data)

    def prepare(self) -> None:
        """Prepare the task, which may take a second. Raises BadSettings."""
        self.loop = self.task.prepare()
        self.engine.use(self.task)

    def close(self) -> None:
        """End the engine."""
        self.engine.close()

    def __enter__(self) -> Self:
        try:
            self.start()
            self.prepare()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def train(
        self, client_id: str, indices: Sequence[int], weights: bytes, order: Train
    ) -> LocalUpdate:
        """Train one client for one round.

        This method and those below raise DataError for a model of another task; its message quotes
        what the model's file says and what the task says.
        """
        return await self._run(train_client, client_id, indices, weights, order)

    async def train_corrected(
        self,
        client_id: str,
        indices: Sequence[int],
        weights: bytes,
        order: Train,
        offset: Mapping[str, np.ndarray],
    ) -> LocalUpdate:
        """Train as `train`, and add the offset to each gradient."""
        return await self._run(train_client, client_id, indices, weights, order, dict(offset))

    async def fine_tune(
        self, client_id: str, indices: Sequence[int], weights: bytes, training: Training
    ) -> Evaluation:
        """Train a model on one client's own data, and measure it before and after."""
        return await self._run(fine_tune_client, client_id, indices, weights, training)

    async def evaluate(
        self, client_id: str, indices: Sequence[int], weights: bytes, seed: int
    ) -> Evaluation:
        """Measure a model on the examples that one client holds out."""
        return await self._run(evaluate_client, client_id, indices, weights, seed)

    async def _run(
        self,
        job: Callable[..., T],
        client_id: str,
        indices: Sequence[int],
        weights: bytes,
        *more: object,
    ) -> T:
        """Run a job with a model of this task."""
        header = weights_file.read_layout(weights, "The model").header
        if header != self._compared:  # the models of an experiment seldom differ in it
            await asyncio.to_thread(self._compare, header, weights)
        return await self.engine.run(job, client_id, list(indices), weights, *more)

    def _compare(self, header: bytes, weights: bytes) -> None:
        with self._comparing:
            if header != self._compared:
                require_no_other(self.task, weights)
                self._compared = header
