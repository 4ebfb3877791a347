"""One client's life: subscribe, get the shard, then poll, train and upload until it is over."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

from client_sdk.api.client import CoordinatorClient
from client_sdk.errors import (
    BadAnswer,
    ClientError,
    DataError,
    NotAuthorised,
    NotThere,
    RequestRefused,
    StateConflict,
    TrainingFailed,
)
from client_sdk.task import metrics
from client_sdk.task.train import Evaluation, LocalUpdate, derive_seed
from serverless_fl.domain import draws
from serverless_fl.domain.errors import BadWeights
from serverless_fl.domain.experiment import WEIGHTS
from serverless_fl.weights.deltas import decompress_model, encode_update
from serverless_fl.weights.encodings import MODEL_ENCODINGS, UPDATE_ENCODINGS, part_bytes
from serverless_fl.wire.schema import Shard, ShardRule, Subscription
from serverless_fl.wire.turns import Done, Train, Wait

GZIP_ENCODINGS = ("delta-int8",)  # gzip saves nothing of the others (docs/decisions/0018)
MOST_INDICES = 20_000_000  # of a shard that is computed here: a gigabyte of Python's numbers
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
    """Something happened to a client: `kind` is one of enrolled, training, dropped (a metric that
    cannot be sent), uploaded, refused, late, waiting, done, evaluated, unevaluated.
    """

    kind: str
    client_id: str
    round: int
    message: str = ""


@dataclass(frozen=True)
class Terms:
    """What of an experiment's view a client needs that was never drawn."""

    seed: int
    part_bytes: int
    direct: bool


class Participant:
    """A client. `client_key` is its secret: who has it is this client, also after a restart.

    `pause(client_id, wait)` passes the time before the first question, after an upload, or after a
    Wait, where somebody knows better than the coordinator when the next is worth while; what it
    gives is the answer. The model that it got last is kept, if that has no more than `keep_bytes`,
    and not fetched again; `held` is one that is here before. `terms` need not be asked for then.
    `examples` is the size of the data set that the shard's indices point into: a coordinator that
    shares out another one is not believed.
    """

    def __init__(
        self,
        client: CoordinatorClient,
        experiment_id: str,
        client_key: str,
        trainer: Trainer,
        *,
        name: str = "",
        on_event: Callable[[Event], None] | None = None,
        pause: Callable[[str, Wait | None], Awaitable[Done | None]] | None = None,
        held: bytes | None = None,
        terms: Terms | None = None,
        keep_bytes: int = 1 << 30,
        examples: int | None = None,
    ) -> None:
        self.experiment_id = experiment_id
        self.id = ""
        self._client = client
        self._client_key = client_key
        self._name = name
        self._trainer = trainer
        self._on_event = on_event or _log
        self._pause = pause
        self._indices: list[int] = []
        self._given_up: set[tuple[int, int]] = set()
        self._terms = terms
        self._held, self._keep_bytes = held, keep_bytes
        self._examples = examples

    async def enrol(self, enrolment_key: str) -> None:
        """Subscribe, and get the shard.

        Raises NotAuthorised, StateConflict (the experiment is full or over), BadAnswer.
        """
        subscription = await self._client.using(enrolment_key).subscribe(
            self.experiment_id,
            self._client_key,
            self._name,
            told=self._pause is not None,
            shard=True,
        )
        self.id = subscription.client_id
        self._client = self._client.using(subscription.token)
        self._indices = await self._shard(subscription)
        self._tell("enrolled", 0, f"{len(self._indices)} examples")

    async def _shard(self, subscription: Subscription) -> list[int]:
        """The shard's indices: as they are listed, or by its rule. Raises BadAnswer."""
        rule = subscription.rule
        if subscription.shard is None and rule is not None and rule.version <= draws.VERSION:
            _require_rule(rule, self._examples)
            return await asyncio.to_thread(
                draws.shard, rule.seed, rule.dataset_size, rule.clients, rule.slot, rule.version
            )
        shard = subscription.shard or await self._client.shard(self.experiment_id)
        _require_shard(shard, self.id, self._examples)
        return shard.indices

    async def run(self) -> Done:
        """Take part until the experiment ends; gives how it ended.

        A trainer that is an Evaluator then measures the last model on the client's held-out
        examples, and what it finds is reported. A failure of that changes nothing.
        """
        status = await self._next()
        while True:
            match status:
                case Done():
                    self._tell("done", 0, status.reason)
                    await self._evaluate(status)
                    return status
                case Wait():
                    self._tell("waiting", status.round, status.message)
                    status = await self._next(status)
                case Train() if (status.round, status.attempt) in self._given_up:
                    await asyncio.sleep(1.0)
                    status = await self._client.status(self.experiment_id)
                case Train():
                    await self._take_part(status)
                    status = await self._next()

    async def _next(self, wait: Wait | None = None) -> Train | Wait | Done:
        if self._pause is not None:
            done = await self._pause(self.id, wait)
            return done or await self._client.status(self.experiment_id)
        if wait is not None:
            return await self._client.next_status(self.experiment_id, wait)
        return await self._client.status(self.experiment_id)

    async def _evaluate(self, done: Done) -> None:
        """Report what the last model is worth here, if a round made one."""
        if not done.model_version or not isinstance(self._trainer, Evaluator):
            return
        try:
            async with asyncio.timeout(EVALUATE_SECONDS):
                examples, found = await self._measure(self._trainer, done.model_version)
        except (ClientError, DataError, TrainingFailed, TimeoutError, ValueError) as error:
            self._tell("unevaluated", 0, str(error) or type(error).__name__)
        else:
            if examples and "accuracy" in found:
                told = f"accuracy {found['accuracy']:.2%} of {examples} held-out examples"
                self._tell("evaluated", 0, told)

    async def _measure(self, trainer: Evaluator, version: int) -> tuple[int, dict[str, float]]:
        """The number of held-out examples, and what was reported of them."""
        terms = self._terms
        if terms is None:  # it was never drawn
            view = await self._client.experiment(self.experiment_id)
            terms = Terms(view.config.seed, view.part_bytes, view.direct)
        weights = await self._client.download_model(
            self.experiment_id, version, terms.part_bytes, direct=terms.direct, held=self._held
        )
        result = await trainer.evaluate(self.id, self._indices, weights, terms.seed)
        examples = metrics.whole(result.examples, "number of held-out examples")
        found = self._sendable({"accuracy": result.accuracy, "loss": result.loss}, 0)
        if examples:
            await self._client.report_evaluation(self.experiment_id, version, examples, found)
        return examples, found

    async def _take_part(self, task: Train) -> None:
        self._terms = Terms(task.training.seed, task.part_bytes, task.direct)
        if task.update_encoding not in (WEIGHTS, *UPDATE_ENCODINGS):
            raise DataError(_unknown(f"takes updates as {task.update_encoding}"))
        if task.download_encoding not in (WEIGHTS, *MODEL_ENCODINGS):
            raise DataError(_unknown(f"sends models as {task.download_encoding}"))
        self._tell("training", task.round)
        try:
            weights = await self._base(task)
            update = await self._trainer.train(self.id, self._indices, weights, task)
            data, most = update.weights, task.part_bytes
            if task.update_encoding != WEIGHTS:
                data = await asyncio.to_thread(self._encoded, weights, update.weights, task)
                most = part_bytes(most, len(data), len(weights))
            await self._client.upload_update(
                self.experiment_id,
                task.round,
                data,
                metrics.whole(update.num_examples, "number of examples"),
                self._sendable(update.metrics, task.round),
                most,
                direct=task.direct,
                at_once=task.at_once,
                gzip="gzip" in task.content_codings and task.update_encoding in GZIP_ENCODINGS,
                most=task.max_update_bytes,
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
            self._tell("uploaded", task.round, _worth(update.metrics))

    async def _base(self, task: Train) -> bytes:
        """The model to train: fetched, unless it is here already. Raises DataError."""
        copied = task.download_encoding != WEIGHTS
        data = self._held
        if data is None or hashlib.sha256(data).hexdigest() != task.model.sha256:
            data = self._held = None  # let go of it before the next one is here
            data = await self._client.download_model(
                self.experiment_id,
                task.base_version,
                task.part_bytes,
                direct=task.direct,
                encoded=copied,
                file=task.model,
            )
            if len(data) <= self._keep_bytes:
                self._held = data
        if not copied:
            return data
        try:
            return await asyncio.to_thread(decompress_model, data)
        except BadWeights as error:
            raise DataError(error.message) from error

    def _encoded(self, base: bytes, weights: bytes, task: Train) -> bytes:
        """The delta that is sent for these weights. Raises DataError."""
        seed = derive_seed(task.training.seed, "encode", task.round, self.id)
        try:
            return encode_update(base, weights, task.update_encoding, seed)
        except BadWeights as error:
            raise DataError(error.message) from error

    def _sendable(self, found: object, number: int) -> dict[str, float]:
        """The metrics that can be sent; the others are told. A diverged loss is one of them."""
        kept, dropped = metrics.clean(found)
        for message in dropped:
            self._tell("dropped", number, message)
        return kept

    def _tell(self, kind: str, number: int, message: str = "") -> None:
        self._on_event(Event(kind, self.id, number, message))


def _log(event: Event) -> None:
    """Where nobody listens, a loss of something is a line of Python's own log."""
    if event.kind == "dropped":
        logging.getLogger("client_sdk").warning("round %d: %s", event.round, event.message)


def _unknown(what: str) -> str:
    return f"The experiment {what}, which this version does not know: upgrade the SDK."


def _require_rule(rule: ShardRule, examples: int | None) -> None:
    """Raise BadAnswer where there is no such shard, or it is too large for this machine."""
    _require_size(rule.dataset_size, examples)
    if not rule.slot < rule.clients <= rule.dataset_size:
        raise BadAnswer("The coordinator's rule for this client's shard names none.")
    first, last = draws.shard_bounds(rule.dataset_size, rule.clients, rule.slot)
    if last - first > MOST_INDICES:
        raise BadAnswer(
            f"The shard has {last - first} examples; this version takes up to {MOST_INDICES}."
        )


def _require_size(size: int, examples: int | None) -> None:
    if examples is not None and size != examples:
        raise BadAnswer(
            f"The coordinator shares out {size} examples, but the data set here has {examples}."
        )


def _require_shard(shard: Shard, client_id: str, examples: int | None) -> None:
    """Raise BadAnswer unless each index is one of the data set's, and there only once."""
    size = shard.dataset_size
    _require_size(size, examples)
    ascending = all(a < b for a, b in pairwise(shard.indices))
    if not ascending or shard.indices[0] < 0 or shard.indices[-1] >= size:
        raise BadAnswer(
            f"The shard that the coordinator gives {client_id} is none: its indices are not "
            f"ascending positions from 0 to {size - 1}."
        )


def _worth(metrics: Mapping[str, object]) -> str:
    """What the model was worth on the held-out examples, before and after the training here."""
    before, after = (metrics.get(f"accuracy_{when}") for when in ("before", "after"))
    if not isinstance(before, float) or not isinstance(after, float):
        return ""
    return f"accuracy {before:.2%} on this client's held-out examples, {after:.2%} after training"
