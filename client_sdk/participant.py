"""One client's life: subscribe, get the shard, then poll, train and upload until it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.wire.schema import MAX_METRIC, Done, Train, Wait
from client_sdk.client import CoordinatorClient
from client_sdk.errors import NotAuthorised, NotThere, RequestRefused, StateConflict
from client_sdk.train import LocalUpdate


class Trainer(Protocol):
    """Trains on this machine's data. The shard's indices point into the training set."""

    async def train(
        self, client_id: str, indices: Sequence[int], weights: bytes, task: Train
    ) -> LocalUpdate:
        """Train the given global weights (safetensors) as `task` says."""
        ...


@dataclass(frozen=True)
class Event:
    """Something happened to a client: `kind` is one of enrolled, training, uploaded, refused,
    late, waiting, done.
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
        """Take part until the experiment ends; gives how it ended."""
        while True:
            status = await self._client.status(self.experiment_id)
            match status:
                case Done():
                    self._tell("done", 0, status.reason)
                    return status
                case Wait():
                    self._tell("waiting", status.round, status.message)
                    await asyncio.sleep(status.retry_after)
                case Train() if (status.round, status.attempt) in self._given_up:
                    await asyncio.sleep(1.0)
                case Train():
                    await self._take_part(status)

    async def _take_part(self, task: Train) -> None:
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
