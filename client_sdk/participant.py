"""One client's life: enrol, get the shard, then poll, train and upload to the experiment's end."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from client_sdk.api.client import CoordinatorClient
from client_sdk.data.holdout import hold_out
from client_sdk.data.seeds import derive_seed
from client_sdk.errors import (
    ClientError,
    DataError,
    NotAuthorised,
    NotThere,
    RequestRefused,
    StateConflict,
    TrainingFailed,
)
from client_sdk.memory.example_ledger import ExampleLedger
from client_sdk.memory.half import Half, KeptHalf, NoHalf
from client_sdk.memory.memory import Memory
from client_sdk.task import metrics, shards
from client_sdk.task.task import Evaluation, LocalUpdate
from client_sdk.trust.agreed import task_fault
from client_sdk.trust.limits import Limits
from client_sdk.trust.offer import require_accepted
from serverless_fl import tracing
from serverless_fl.domain.agreement import ColumnSums
from serverless_fl.domain.errors import BadWeights
from serverless_fl.domain.experiment import ASKED, WEIGHTS, Config
from serverless_fl.domain.records import slot_named
from serverless_fl.privacy.examples import EXAMPLE_EPSILON, ExampleNoise
from serverless_fl.privacy.secure.context import Refused
from serverless_fl.privacy.secure.graph import FEWEST
from serverless_fl.privacy.sending import Sending
from serverless_fl.weights.deltas import decompress_model
from serverless_fl.weights.encodings import (
    MASKED_ENCODINGS,
    MODEL_ENCODINGS,
    UPDATE_ENCODINGS,
    part_bytes,
)
from serverless_fl.wire.agreement import AgreementView
from serverless_fl.wire.turns import Done, Phase, Train, Training, Wait

if TYPE_CHECKING:
    from client_sdk.memory.masks import Masks
    from serverless_fl.privacy.secure.identity import Identity, Pins

GZIP_ENCODINGS = ("delta-int8",)  # gzip saves nothing of the others (docs/decisions/0018)
FINE_TUNE_SECONDS = 3600.0
EVALUATE_SECONDS = 120.0  # for the last model: a client whose experiment ended leaves soon
SENDS = 30  # of an update that a buffered round was closed over
PAUSE_SECONDS = 1.0  # between two questions in an attempt that this client has given up


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
        """Metrics of weights (safetensors); `seed` is the experiment's, as in `train`."""
        ...


@runtime_checkable
class FineTuner(Protocol):
    """A trainer that can also make a model a client's own."""

    async def fine_tune(
        self, client_id: str, indices: Sequence[int], weights: bytes, training: Training
    ) -> Evaluation:
        """Metrics of weights (safetensors) before and after a training on the client's data."""
        ...


@dataclass(frozen=True)
class Event:
    """What happened to a client.

    `kind` is one of enrolled, shared and unshared (the counts of its labels), training, dropped (a
    metric that cannot be sent), uploaded, refused, late, waiting, masking (its part in a phase of
    secure aggregation), done, evaluated, unevaluated. `round` is 0 outside of rounds. A
    simulation adds unmeasured: the coordinator no longer has the round's model. That event has no
    client.
    """

    kind: str
    client_id: str
    round: int
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The result of one turn of a participant.

    `trained`: it trained and sent its update, or tried to. `seconds` is the time until the next
    turn is worth while. `done` says how the experiment ended; None: it goes on.
    """

    trained: bool
    seconds: float = 0.0
    done: Done | None = None


@dataclass(frozen=True)
class Terms:
    """The settings of an experiment that a client needs to measure its last model.

    A client that trains gets them with its task.
    """

    seed: int
    part_bytes: int
    direct: bool
    fine_tune_epochs: int = 0
    private: bool = False  # metrics stay here


class Participant:
    """One client of an experiment.

    `client_key` is the client's secret: a participant with the same key is the same client, also
    after a restart. `on_event` gets each event. `examples` is the size of the data set that the
    shard's indices point into; a coordinator that shares out a set of another size gets a
    BadAnswer. The participant keeps the model that it downloaded last, up to `keep_bytes`, and does
    not download it again; `held` is such a model from before. Where the parties bring data of their
    own, `own` are the places of this client's examples in the trainer's data, `facts` say in words
    what they look like, and `sums` fix the normalisation; sums are sent only while they are due.
    `memory` is where it keeps what a strategy such as SCAFFOLD makes it remember: without one in
    this process, so that the next process begins again with 0. Under secure aggregation it keeps
    its secrets of the newest attempt there. With `min_participants` it takes part under secure
    aggregation alone, and helps to open no sum of fewer clients' updates; with `require_secure` it
    asks for secure aggregation in any case, and with `max_epsilon` for differential privacy that
    spends no more: with DP-SGD by its own ledger, which `memory` keeps. Each task is checked.
    `accepted` is the digest of an offer (`read_offer`): a participant does not enrol in another
    one. It signs its keys with its `identity`; with `pins` it takes part under secure aggregation
    alone, and with nobody who is not pinned (`read_identity`, `read_pins`). `agreed` are the
    settings that this party has accepted (`Offer.config`; with `accepted` those of the offer): it
    refuses a task with others, and another helper.
    The coordinator calls `wake_address` when a round waits for this participant, for clients that
    take single turns. `labels` counts the examples of each label among those at some places: a
    party that gives it agrees that everybody sees the counts, if the experiment asks for them.

    A simulation gives two more. `pause(client_id, wait)` returns when the next poll is worth while:
    it is called before the first poll, after an upload and after a Wait, and gives how the
    experiment ended, if it has. `terms` saves a request.
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
        own: Sequence[int] | None = None,
        facts: Mapping[str, str] | None = None,
        sums: Sequence[ColumnSums] = (),
        memory: Memory | None = None,
        min_participants: int | None = None,
        require_secure: bool = False,
        max_epsilon: float | None = None,
        accepted: str | None = None,
        identity: Identity | None = None,
        pins: Pins | None = None,
        agreed: Config | None = None,
        wake_address: str = "",
        labels: Callable[[Sequence[int]], Mapping[str, int]] | None = None,
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
        self._given_up: set[tuple[int, int]] = set()  # rounds and attempts
        self._terms = terms
        self._held, self._keep_bytes = held, keep_bytes
        self._examples, self._own = examples, own
        self._facts, self._sums = facts, sums
        self._memory = memory or Memory()
        self._masks_of: Masks | None = None
        self._limits = Limits(
            min_participants=min_participants,
            require_secure=require_secure,
            pinned=pins is not None,
            max_epsilon=max_epsilon,
        )
        self._accepted = accepted
        self._identity, self._pins, self._agreed = identity, pins, agreed
        self._wake_address = wake_address
        self._labels = labels

    async def enrol(self, enrolment_key: str) -> None:
        """Claim a slot of the experiment, and get the shard.

        Raises NotAuthorised, StateConflict (the experiment is full or over), BadAnswer,
        RequestRefused where the experiment does not take the data of this party's own, and
        DataError for another offer than the one that was accepted.
        """
        door = self._client.using(enrolment_key)
        if self._accepted is not None:
            offer = await require_accepted(door, self.experiment_id, self._accepted)
            self._agreed = offer.config
        sums_due = bool(self._sums) and (await door.agreement(self.experiment_id)).sums_due
        subscription = await door.subscribe(
            self.experiment_id,
            self._client_key,
            self._name,
            told=self._pause is not None,
            shard=self._own is None,
            examples=None if self._own is None else len(self._own),
            facts=self._facts,
            sums=self._sums if sums_due else (),
            proof=self._identity.enrol(self.experiment_id, self._client_key)
            if self._identity is not None
            else None,
            wake_address=self._wake_address,
        )
        self.id = subscription.client_id
        self._client = self._client.using(subscription.token)
        if self._own is not None:
            self._indices = list(self._own)
        elif rule := shards.rule_of(subscription):
            self._indices = await asyncio.to_thread(shards.compute, rule, self._examples)
        else:
            shard = subscription.shard or await self._client.shard(self.experiment_id)
            self._indices = shards.check(shard, self.id, self._examples)
        self._report("enrolled", 0, f"{len(self._indices)} examples")
        await self._share_labels()

    async def _share_labels(self) -> None:
        """Tell the counts of labels where this party agrees and the experiment asks."""
        if self._labels is None:
            return
        config = self._agreed or (await self._client.experiment(self.experiment_id)).config
        if config.label_counts != ASKED:
            self._report("unshared", 0, "the experiment does not ask for counts of labels")
            return
        counts = await asyncio.to_thread(self._labels, self._indices)
        await self._client.share_labels(self.experiment_id, counts)
        self._report("shared", 0, f"the counts of {len(counts)} labels")

    async def agreement(self) -> AgreementView:
        """The terms for parties with data of their own, with the scales that the sums fixed."""
        return await self._client.agreement(self.experiment_id)

    async def model(self, version: int) -> bytes:
        """The bytes (safetensors) of a model version."""
        terms = await self._known_terms()
        return await self._client.download_model(
            self.experiment_id, version, terms.part_bytes, direct=terms.direct, held=self._held
        )

    async def _known_terms(self) -> Terms:
        if self._terms is None:  # the client never trained
            view = await self._client.experiment(self.experiment_id)
            epochs, noise = view.config.fine_tune_epochs, view.config.privacy.example_noise
            self._terms = Terms(
                *(view.config.seed, view.part_bytes, view.direct, epochs, noise is not None)
            )
        return self._terms

    async def run(self) -> Done:
        """Take part until the experiment ends; gives how it ended.

        A trainer that is an Evaluator then measures the last model on the client's held-out
        examples, and the client reports the result. A failure of that changes nothing.
        """
        status = await self._next()
        while not isinstance(status, Done):
            if await self._act(status):
                status = await self._next()
            elif isinstance(status, Wait):
                status = await self._next(status)
            else:  # this client has given the attempt up
                await asyncio.sleep(PAUSE_SECONDS)
                status = await self._client.status(self.experiment_id)
        await self._end(status)
        return status

    async def turn(self) -> Turn:
        """Ask what there is to do, do it, and say when to come back; this never sleeps.

        It is for clients that a scheduler, cron or a function service runs now and then, each time
        perhaps in a new process: `enrol` again with the same `client_key`, then take a turn
        (docs/scheduled-client.md). At the end of the experiment it does what `run` does.
        """
        status = await self._client.status(self.experiment_id)
        if trained := await self._act(status):
            status = await self._client.status(self.experiment_id)
        match status:
            case Done():
                await self._end(status)
                return Turn(trained=trained, done=status)
            case Wait():
                return Turn(trained=trained, seconds=status.retry_after)
            case Train() | Phase():
                pause = PAUSE_SECONDS if self._has_given_up(status) else 0.0
                return Turn(trained=trained, seconds=pause)

    async def _act(self, status: Train | Wait | Phase | Done) -> bool:
        """Do what the status asks for; say whether this client trained."""
        if isinstance(status, Wait):
            self._report("waiting", status.round, status.message)
        if not isinstance(status, Train | Phase) or self._has_given_up(status):
            return False
        of_round = self.experiment_id, status.round
        if isinstance(status, Phase):
            with tracing.round_span(f"do {status.state}", *of_round, client=self.id):
                await self._do_phase(status)
        else:
            with tracing.round_span("take part", *of_round, client=self.id):
                await self._take_part(status)
        return True

    async def _do_phase(self, phase: Phase) -> None:
        """Do this client's part of a phase of secure aggregation, or give the attempt up."""
        try:
            done = await self._masks.do(phase)
        except StateConflict as error:
            if error.code != "out-of-turn":
                self._given_up.add((phase.round, phase.attempt))
            self._report("late", phase.round, error.detail)
        except Refused as error:
            self._given_up.add((phase.round, phase.attempt))
            self._report("refused", phase.round, str(error))
        else:
            self._report("masking", phase.round, done)

    @property
    def _masks(self) -> Masks:
        if self._masks_of is None:
            # Imported here: few experiments need the package of ciphers.
            from client_sdk.memory.masks import Masks

            slot = slot_named(self.id)
            assert slot is not None  # noqa: S101  (`enrol` has it from the coordinator)
            self._masks_of = Masks(
                *(self._client, self.experiment_id, slot, self._memory),
                self._limits.min_participants or FEWEST,
                *(self._identity, self._pins, self._agreed),
            )
        return self._masks_of

    def _has_given_up(self, task: Train | Phase) -> bool:
        return (task.round, task.attempt) in self._given_up

    async def _end(self, done: Done) -> None:
        self._report("done", 0, done.reason)
        await self._evaluate(done)

    async def _next(self, wait: Wait | None = None) -> Train | Wait | Phase | Done:
        """What to do now, or as soon as there is something else to do than `wait`."""
        if self._pause is not None:
            done = await self._pause(self.id, wait)
            return done or await self._client.status(self.experiment_id)
        if wait is not None:
            return await self._client.next_status(self.experiment_id, wait)
        return await self._client.status(self.experiment_id)

    async def _evaluate(self, done: Done) -> None:
        """Measure the last model on the held-out examples, if a round made one, and report it."""
        if not done.model_version or not isinstance(self._trainer, Evaluator):
            return
        try:
            epochs = (await self._known_terms()).fine_tune_epochs
            async with asyncio.timeout(FINE_TUNE_SECONDS if epochs else EVALUATE_SECONDS):
                examples, found = await self._measure(self._trainer, done.model_version)
        except (ClientError, DataError, TrainingFailed, TimeoutError, ValueError) as error:
            self._report("unevaluated", 0, str(error) or type(error).__name__)
        else:
            if examples and found:
                shown = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
                if "accuracy" in found:
                    shown = f"accuracy {found['accuracy']:.2%}"
                    if "accuracy_after" in found:
                        shown += f", and {found['accuracy_after']:.2%} after fine-tuning,"
                self._report("evaluated", 0, f"{shown} of {examples} held-out examples")

    async def _measure(self, trainer: Evaluator, version: int) -> tuple[int, dict[str, float]]:
        """The number of held-out examples, and their metrics, which the client has reported.

        With DP-SGD they stay here.
        """
        terms, weights = await self._known_terms(), await self.model(version)
        if terms.fine_tune_epochs:
            result = await self._fine_tune(weights)
        else:
            result = await trainer.evaluate(self.id, self._indices, weights, terms.seed)
        examples = metrics.whole(result.examples, "number of held-out examples")
        found = self._sendable(result.metrics, 0)
        if examples and not terms.private:
            await self._client.report_evaluation(self.experiment_id, version, examples, found)
        return examples, found

    async def _fine_tune(self, weights: bytes) -> Evaluation:
        """Make the last model this client's own. Raises TrainingFailed for a trainer that cannot.

        It trains as in the first round, also with the first round's learning rate.
        """
        if not isinstance(self._trainer, FineTuner):
            raise TrainingFailed("This trainer does not fine-tune: give it a method fine_tune.")
        config = (await self._client.experiment(self.experiment_id)).config
        told = {name: getattr(config, name) for name in Training.model_fields}
        training = Training(**told | {"local_epochs": config.fine_tune_epochs})
        return await self._trainer.fine_tune(self.id, self._indices, weights, training)

    async def _take_part(self, task: Train) -> None:
        """Train for one round and upload the update. Raises what no other round could mend."""
        told, noise = task.training, task.told_privacy.privacy.example_noise
        self._terms = Terms(
            *(told.seed, task.part_bytes, task.direct, told.fine_tune_epochs, noise is not None)
        )
        await self._require_terms(task)
        self._report("training", task.round)
        half: Half = NoHalf(task)
        try:
            with tracing.span("download"):
                weights = await self._base(task)
            half = await self._half(task, weights)
            with tracing.span("train"):
                update = await half.train(self._trainer, self.id, self._indices, weights)
            worth = _worth(update.metrics)
            if noise is not None:
                update = await asyncio.to_thread(self._charged, update, noise)
            examples = metrics.whole(update.num_examples, "number of examples")
            if task.update_encoding in MASKED_ENCODINGS:
                with tracing.span("upload"):
                    await self._send_masked(task, weights, update, examples)
                self._report("uploaded", task.round, worth)
                return
            most = task.part_bytes
            data = await asyncio.to_thread(self._to_send, weights, update.weights, task)
            data = await asyncio.to_thread(half.propose, update, weights, data)
            if task.update_encoding != WEIGHTS:
                most = part_bytes(most, len(data), len(weights))
            facts = (
                examples,
                self._sendable(update.metrics, task.round),
            )
            with tracing.span("upload"):
                await self._send(task, data, *facts, most)
        except StateConflict as error:
            if error.code not in ("out-of-turn", "send-again"):
                self._given_up.add((task.round, task.attempt))
            half.discard()
            self._report("late", task.round, error.detail)
        except Refused as error:
            self._given_up.add((task.round, task.attempt))
            self._report("refused", task.round, str(error))
        except (NotAuthorised, NotThere):
            raise
        except RequestRefused as error:
            if error.status >= 500:
                raise
            # The same training would be refused again; sit this attempt out.
            self._given_up.add((task.round, task.attempt))
            half.discard()
            self._report("refused", task.round, error.detail)
        else:
            await asyncio.to_thread(half.accept)
            self._report("uploaded", task.round, worth)

    async def _require_terms(self, task: Train) -> None:
        """Raise DataError for a task that this client does not know, or does not want."""
        if task.update_encoding not in (WEIGHTS, *UPDATE_ENCODINGS, *MASKED_ENCODINGS):
            raise DataError(_unknown(f"takes updates as {task.update_encoding}"))
        masked = task.update_encoding in MASKED_ENCODINGS
        if fault := self._limits.secure_fault(masked=masked):
            raise DataError(fault)
        if task.download_encoding not in (WEIGHTS, *MODEL_ENCODINGS):
            raise DataError(_unknown(f"sends models as {task.download_encoding}"))
        if self._agreed is not None and (fault := task_fault(self._agreed, task)):
            raise DataError(fault)
        if (noise := task.told_privacy.privacy.example_noise) is not None:
            fault = await asyncio.to_thread(self._example_fault, noise, task.training)
            if fault is not None:
                raise DataError(fault)
        elif self._limits.max_epsilon is not None:
            view = await self._client.experiment(self.experiment_id, task.round)
            if fault := self._limits.epsilon_fault(view):
                raise DataError(fault)

    def _example_fault(self, noise: ExampleNoise, training: Training) -> str | None:
        """Say why this client's examples must not be trained on; None if they may."""
        seed = derive_seed(training.seed, "holdout", self.id)
        trained, _ = hold_out(self._indices, seed)
        most = self._limits.max_epsilon
        return ExampleLedger(self._memory).fault(noise, training, len(trained), most)

    def _charged(self, update: LocalUpdate, noise: ExampleNoise) -> LocalUpdate:
        """The update to send, once its cost stands in the ledger. Raises TrainingFailed.

        In place of its metrics, which have no noise, it has the epsilon that this client's examples
        have cost by now.
        """
        if update.spent is None:
            raise TrainingFailed(
                "The experiment asks for privacy dp-sgd, and this trainer does not say what its "
                "training has spent (LocalUpdate.spent), so nothing is sent."
            )
        ledger = ExampleLedger(self._memory)
        ledger.charge(update.spent)
        return replace(update, metrics={EXAMPLE_EPSILON: ledger.epsilon(noise)})

    async def _send(
        self, task: Train, data: bytes, examples: int, found: dict[str, float], part_bytes: int
    ) -> None:
        """Upload an update; again where the coordinator asks for that, as buffered rounds do."""
        for left in reversed(range(SENDS)):
            try:
                await self._client.upload_update(
                    *(self.experiment_id, task.round, data, examples, found, part_bytes),
                    direct=task.direct,
                    at_once=task.at_once,
                    gzip="gzip" in task.content_codings and task.update_encoding in GZIP_ENCODINGS,
                    most=task.max_update_bytes,
                )
                return
            except StateConflict as error:
                if error.code != "send-again" or not left:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)

    async def _send_masked(
        self, task: Train, base: bytes, update: LocalUpdate, examples: int
    ) -> None:
        """Mask an update and upload it. Raises Refused, StateConflict."""
        found = self._sendable(update.metrics, task.round)
        seed = derive_seed(task.training.seed, "encode", task.round, self.id)
        sent = replace(update, metrics=found)
        masked = await self._masks.mask(task, base, sent, examples, seed)
        await self._client.upload_update(
            *(self.experiment_id, task.round, masked.data, 1, {}),
            part_bytes(task.part_bytes, len(masked.data), len(base)),
            direct=task.direct,
            at_once=task.at_once,
            most=task.max_update_bytes,
            masked=(task.attempt, masked.counts),
            seal=masked.seal,
        )

    async def _half(self, task: Train, weights: bytes) -> Half:
        """This client's half of the strategy."""
        if task.strategy is None or not task.strategy.remembers:
            return NoHalf(task)
        arguments = self._client, self.experiment_id, self.id, task, weights, self._memory
        return await KeptHalf.begin(*arguments)

    async def _base(self, task: Train) -> bytes:
        """The model to train, downloaded unless it is here already. Raises DataError."""
        compressed = task.download_encoding != WEIGHTS
        data = self._held
        if data is None or hashlib.sha256(data).hexdigest() != task.model.sha256:
            data = self._held = None  # frees its memory before the next one arrives
            data = await self._client.download_model(
                self.experiment_id,
                task.base_version,
                task.part_bytes,
                direct=task.direct,
                encoded=compressed,
                file=task.model,
            )
            if len(data) <= self._keep_bytes:
                self._held = data
        if not compressed:
            return data
        try:
            return await asyncio.to_thread(decompress_model, data)
        except BadWeights as error:
            raise DataError(error.message) from error

    def _to_send(self, base: bytes, weights: bytes, task: Train) -> bytes:
        """The file to send of these weights, trained from the base. Raises DataError."""
        seed = derive_seed(task.training.seed, "encode", task.round, self.id)
        sending, told = Sending(task.update_encoding, seed), task.told_privacy
        try:
            return told.privacy.before_upload(base, weights, sending, told)
        except BadWeights as error:
            raise DataError(error.message) from error

    def _sendable(self, found: object, number: int) -> dict[str, float]:
        """The metrics that can be sent. An event reports each other one, such as a loss of NaN."""
        kept, dropped = metrics.clean(found)
        for message in dropped:
            self._report("dropped", number, message)
        return kept

    def _report(self, kind: str, number: int, message: str = "") -> None:
        self._on_event(Event(kind, self.id, number, message))


def _log(event: Event) -> None:
    """Write a lost metric to Python's log, where there is no `on_event`."""
    if event.kind == "dropped":
        logging.getLogger("client_sdk").warning("round %d: %s", event.round, event.message)


def _unknown(what: str) -> str:
    return f"The experiment {what}, which this version does not know: upgrade the SDK."


def _worth(metrics: Mapping[str, object]) -> str:
    """The model's accuracy on the held-out examples, before and after the training here."""
    before, after = (metrics.get(f"accuracy_{when}") for when in ("before", "after"))
    if not isinstance(before, float) or not isinstance(after, float):
        return ""
    return f"accuracy {before:.2%} on this client's held-out examples, {after:.2%} after training"
