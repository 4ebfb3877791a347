"""A trainer that is made when the first round opens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from client_sdk.engines.trainer import LocalTrainer
from client_sdk.task.task import Evaluation, LocalUpdate
from serverless_fl.wire.turns import Train, Training

if TYPE_CHECKING:
    import numpy as np


class LaterTrainer:
    """Calls `make` before the first training, and closes what that made.

    Choose it for data that can be prepared only after the start of an experiment: the
    normalisation that the parties' sums fix is not known before.
    """

    def __init__(self, make: Callable[[], Awaitable[LocalTrainer]]) -> None:
        self._make = make
        self._made: LocalTrainer | None = None

    async def train(
        self, client_id: str, indices: Sequence[int], weights: bytes, order: Train
    ) -> LocalUpdate:
        """Train one client for one round."""
        return await (await self._trainer()).train(client_id, indices, weights, order)

    async def train_corrected(
        self,
        client_id: str,
        indices: Sequence[int],
        weights: bytes,
        order: Train,
        offset: Mapping[str, np.ndarray],
    ) -> LocalUpdate:
        """Train as `train`, and add the offset to each gradient."""
        trainer = await self._trainer()
        return await trainer.train_corrected(client_id, indices, weights, order, offset)

    async def fine_tune(
        self, client_id: str, indices: Sequence[int], weights: bytes, training: Training
    ) -> Evaluation:
        """Train a model on the client's own data, and measure it before and after."""
        return await (await self._trainer()).fine_tune(client_id, indices, weights, training)

    async def evaluate(
        self, client_id: str, indices: Sequence[int], weights: bytes, seed: int
    ) -> Evaluation:
        """Measure a model on the examples that the client holds out."""
        return await (await self._trainer()).evaluate(client_id, indices, weights, seed)

    def close(self) -> None:
        """End the trainer, if there is one."""
        if self._made is not None:
            self._made.close()

    async def _trainer(self) -> LocalTrainer:
        if self._made is None:
            self._made = await self._make()
            self._made.start()
            await asyncio.to_thread(self._made.prepare)
        return self._made
