"""One client's life: subscribe, get the shard, then poll, train and upload until it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from app.wire.schema import MAX_METRIC, Done, Train, Wait
from client_sdk.client import CoordinatorClient
from client_sdk.errors import (
    ClientError,
    DataError,
    NotAuthorised,
    NotThere,
    RequestRefused,
    StateConflict,
    TrainingFailed,
)
from client_sdk.train import Evaluation, LocalUpdate

EVALUATE_SECONDS = 120.0  # for the last model; who has ended must not wait for ever


class Trainer(Protocol):
    """Trains on this machine's data. The shard's indices point into the training set."""

    async def train(
        self, client_id: str, indices: Sequence[int], weights: bytes, task: Train
    ) -> LocalUpdate:
        """Train the given global weights (safetensors) as `task` says."""
        ...


@runtime_checkable
class Evaluator(Protocol):
    """A trainer that can also measure a model on the examples that a client holds out."""

    async def evaluate(
        self, client_id: str, indices: Sequence[int], weights: bytes, seed: int
    ) -> Evaluation:
        """Loss and accuracy of weights (safetensors); `seed` is the experiment's, as in `train`."""
        ...


@dataclass(frozen=True)
class Event:
    """Something happened to a client: `kind` is one of enrolled, training, uploaded, refused,
    late, waiting, done, evaluated, unevaluated.
    """

    kind: str
    client_id: str
    round: int
    message: str = ""


class Participant:
    """A client. `client_key` is its secret: who has it is this client, also after a restart."""

    def __init__(
        self,
        client: CoordinatorClient,
        experiment_id: str,
        client_key: str,
        trainer: Trainer,
        *,
        name: str = "",
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self.experiment_id = experiment_id
        self.id = ""
        self._client = client
        self._client_key = client_key
        self._name = name
        self._trainer = trainer
        self._on_event = on_event or (lambda event: None)
        self._indices: list[int] = []
        self._given_up: set[tuple[int, int]] = set()
        self._last: Train | None = None

    async def enrol(self, enrolment_key: str) -> None:
        """Subscribe and fetch the shard.

        Raises NotAuthorised, StateConflict (the experiment is full or over).
        """
        subscription = await self._client.using(enrolment_key).subscribe(
            self.experiment_id, self._client_key, self._name
        )
        self.id = subscription.client_id
        self._client = self._client.using(subscription.token)
        self._indices = (await self._client.shard(self.experiment_id)).indices
        self._tell("enrolled", 0, f"{len(self._indices)} examples")

    async def run(self) -> Done:
        """Take part until the experiment ends; gives how it ended.

        A trainer that is an Evaluator then measures the last model on the client's held-out
        examples, and what it finds is reported. A failure of that changes nothing.
        """
        status = await self._client.status(self.experiment_id)
        while True:
            match status:
                case Done():
                    self._tell("done", 0, status.reason)
                    await self._evaluate(status)
                    return status
                case Wait():
                    self._tell("waiting", status.round, status.message)
                    status = await self._client.next_status(self.experiment_id, status)
                    continue
                case Train() if (status.round, status.attempt) in self._given_up:
                    await asyncio.sleep(1.0)
                case Train():
                    await self._take_part(status)
            status = await self._client.status(self.experiment_id)

    async def _evaluate(self, done: Done) -> None:
        """Report what the last model is worth here, if a round made one."""
        if not done.model_version or not isinstance(self._trainer, Evaluator):
            return
        try:
            async with asyncio.timeout(EVALUATE_SECONDS):
                result = await self._measure(self._trainer, done.model_version)
        except (ClientError, DataError, TrainingFailed, TimeoutError, ValueError) as error:
            self._tell("unevaluated", 0, str(error) or type(error).__name__)
        else:
            if result.examples:
                told = f"accuracy {result.accuracy:.2%} of {result.examples} held-out examples"
                self._tell("evaluated", 0, told)

    async def _measure(self, trainer: Evaluator, version: int) -> Evaluation:
        if self._last:
            seed = self._last.training.seed
            part_bytes, direct = self._last.part_bytes, self._last.direct
        else:  # it was never drawn
            experiment = await self._client.experiment(self.experiment_id)
            seed = experiment.config.seed
            part_bytes, direct = experiment.part_bytes, experiment.direct
        weights = await self._client.download_model(
            self.experiment_id, version, part_bytes, direct=direct
        )
        result = await trainer.evaluate(self.id, self._indices, weights, seed)
        if result.examples:
            found = {"accuracy": result.accuracy, "loss": result.loss}
            await self._client.report_evaluation(
                self.experiment_id,
                version,
                result.examples,
                {k: v for k, v in found.items() if abs(v) <= MAX_METRIC},
            )
        return result

    async def _take_part(self, task: Train) -> None:
        self._last = task
        self._tell("training", task.round)
        try:
            weights = await self._client.download_model(
                self.experiment_id, task.base_version, task.part_bytes, direct=task.direct
            )
            update = await self._trainer.train(self.id, self._indices, weights, task)
            await self._client.upload_update(
                self.experiment_id,
                task.round,
                update.weights,
                update.num_examples,
                # A diverged loss is no JSON number; the weights themselves will tell.
                {k: v for k, v in update.metrics.items() if abs(v) <= MAX_METRIC},
                task.part_bytes,
                direct=task.direct,
            )
        except StateConflict as error:
            if error.code != "out-of-turn":
                self._given_up.add((task.round, task.attempt))
            self._tell("late", task.round, error.detail)
        except (NotAuthorised, NotThere):
            raise
        except RequestRefused as error:
            if error.status >= 500:
                raise
            # The same training would be refused again; sit this attempt out.
            self._given_up.add((task.round, task.attempt))
            self._tell("refused", task.round, error.detail)
        else:
            self._tell("uploaded", task.round)

    def _tell(self, kind: str, number: int, message: str = "") -> None:
        self._on_event(Event(kind, self.id, number, message))
