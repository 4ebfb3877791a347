"""Many participants on this machine: create the experiment, run the clients, watch the rounds."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from client_sdk.api.client import CoordinatorClient
from client_sdk.data.datasets import Dataset
from client_sdk.errors import BadAnswer, NotThere
from client_sdk.participant import Event, Participant, Terms, Trainer
from client_sdk.simulation.bell import Bell
from client_sdk.task.models import ModelSpec, TwoLayerCNN, build, describe, load_bytes, to_bytes
from client_sdk.task.train import Evaluation, derive_seed, evaluate
from serverless_fl.domain.experiment import TERMINAL, ExperimentState
from serverless_fl.domain.metrics import MAX_METRIC
from serverless_fl.domain.round import RoundState
from serverless_fl.wire.schema import ExperimentConfig
from serverless_fl.wire.turns import Done
from serverless_fl.wire.views import ExperimentView, ModelView, RoundSummary, RoundView

WATCH_SECONDS = 0.3
KEEP_BYTES = 256 * 1024**2  # of models that all clients together keep


@dataclass(frozen=True)
class Row:
    """A closed round: what the new global model is worth, and what it took."""

    round: int
    accuracy: float
    loss: float
    seconds: float
    bytes_up: int
    bytes_down: int
    updates: int
    attempts: int
    sha256: str
    federated: dict[str, float]
    refused: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def best_of(rows: Sequence[Row]) -> Row:
    """The round whose model is best on the test set: by accuracy, then loss, then the first."""
    return min(rows, key=lambda row: (-row.accuracy, row.loss, row.round))


@dataclass(frozen=True)
class Outcome:
    """How a simulation ended, with its rows, the last global model and the best (safetensors).

    `models` has every version with the evaluations that were reported of it. `best` is the model
    of `best_of(rows)`; None where there are no rounds, or where it is kept nowhere any more.
    """

    experiment: ExperimentView
    rows: list[Row]
    weights: bytes
    models: list[ModelView] = field(default_factory=list)
    best: bytes | None = None


@dataclass(frozen=True)
class Watchers:
    """Who is told what happens. All are called from the event loop."""

    on_event: Callable[[Event], None] = lambda event: None
    on_experiment: Callable[[ExperimentView], None] = lambda experiment: None
    on_row: Callable[[Row], None] = lambda row: None


class _Paused(Exception):
    """The experiment opens no further round until its admin says so."""


class Simulation:
    """One experiment and all of its clients in this process; training goes to `trainer`.

    `secret` makes the clients' keys: the same secret is the same clients, so a simulation that
    was interrupted goes on where it stopped.
    """

    def __init__(
        self,
        client: CoordinatorClient,
        dataset: Dataset,
        spec: ModelSpec,
        config: ExperimentConfig,
        trainer: Trainer,
        *,
        secret: str,
        name: str = "",
        watchers: Watchers | None = None,
    ) -> None:
        self.client = client
        self.dataset = dataset
        self.spec = spec
        self.config = config
        self.trainer = trainer
        self.name = name
        self.watchers = watchers or Watchers()
        self.experiment_id = ""
        self.rows: list[Row] = []
        self._secret = secret
        self._bell = Bell()
        self._paused = False
        self._held: bytes | None = None
        self._measured = 0  # the version that `_held` is of
        self._best: bytes | None = None
        self._model: TwoLayerCNN = build(spec)
        self._test_x = dataset.normalise(dataset.test_x)

    async def create(self) -> str:
        """Create the experiment with its initial weights, or find it again; gives its id.

        Raises RequestRefused (bad key, contradicting settings, or others than it was made with).
        """
        created = await self.client.create_experiment(
            self.name, self.config, self._derive("experiment")
        )
        self.experiment_id = created.id
        self._enrolment_key = created.enrolment_key
        self._part_bytes, self._direct = created.part_bytes, created.direct
        if created.state is not ExperimentState.AWAITING_MODEL:
            return created.id
        await self.client.upload_initial_model(
            created.id,
            self._initial(),
            created.part_bytes,
            direct=created.direct,
        )
        return created.id

    def _initial(self) -> bytes:
        network = build(self.spec, derive_seed(self.config.seed, "initial weights"))
        return to_bytes(network, describe(self.dataset, self.spec))

    async def resume(self) -> None:
        """Let a paused experiment go on, with the budget of this one's settings.

        Raises StateConflict where that is reached (code `budget-reached`).
        """
        experiment = await self.client.experiment(self.experiment_id)
        budget = self.config.budget_usd
        other = budget is not None and budget != experiment.config.budget_usd
        if experiment.state is ExperimentState.PAUSED or (
            other and experiment.state not in TERMINAL
        ):
            await self.client.resume_experiment(self.experiment_id, budget)

    async def run(self) -> Outcome:
        """Run all clients until the experiment ends, or is paused."""
        closed: asyncio.Queue[RoundSummary | None] = asyncio.Queue()
        tasks: list[asyncio.Task[object]] = [asyncio.create_task(self._watch(closed))]
        tasks += [asyncio.create_task(self._measure_all(closed))]
        tasks += [asyncio.create_task(self._participate(n)) for n in range(self.config.clients)]
        try:
            # Whoever fails first ends the run: a client that cannot go on would be waited for.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        except _Paused:
            pass  # nobody here could resume it while it waits
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        experiment = await self.client.experiment(self.experiment_id)
        weights = await self._download(experiment.model_version or 0)
        # After the clients' end: each reports what the last model is worth on its own data.
        models = await self.client.models(self.experiment_id)
        return Outcome(experiment, self.rows, weights, models, await self._best_weights())

    async def _best_weights(self) -> bytes | None:
        """The best round's model. A run that was resumed may have to fetch it again."""
        if not self.rows:
            return None
        best = best_of(self.rows)
        if self._best is None or hashlib.sha256(self._best).hexdigest() != best.sha256:
            try:
                self._best = await self._download(best.round)
            except NotThere:  # the experiment keeps no model of that age
                return None
        return self._best

    async def _participate(self, number: int) -> Done:
        participant = Participant(
            self.client,
            self.experiment_id,
            self._derive(f"client {number}"),
            self.trainer,
            name=f"simulated {number}",
            on_event=self._tell,
            pause=self._bell.pause,
            keep_bytes=KEEP_BYTES // self.config.clients,
            terms=Terms(self.config.seed, self._part_bytes, self._direct),
            examples=len(self.dataset.train_y),
        )
        await participant.enrol(self._enrolment_key)
        return await participant.run()

    def _tell(self, event: Event) -> None:
        self.watchers.on_event(event)
        if event.kind in ("uploaded", "refused", "late"):
            self._bell.settled(event.client_id)

    async def _watch(self, closed: asyncio.Queue[RoundSummary | None]) -> None:
        """Follow the experiment to its end or pause; hands on each round that has made a model."""
        seen = 0
        while True:
            self._bell.changed.clear()
            experiment = await self.client.experiment(self.experiment_id, seen)
            self.watchers.on_experiment(experiment)
            self._bell.see(experiment)
            # A round is closed a moment before its model is announced.
            for summary in experiment.history:
                if summary.state is RoundState.CLOSED and summary.number <= (
                    experiment.model_version or 0
                ):
                    closed.put_nowait(summary)
                    seen = summary.number
            self._paused = experiment.state is ExperimentState.PAUSED
            if self._paused or experiment.state in TERMINAL:
                closed.put_nowait(None)
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await self._bell.changed.wait()

    async def _measure_all(self, closed: asyncio.Queue[RoundSummary | None]) -> None:
        """Evaluate each new global model on the test set. Raises _Paused."""
        while summary := await closed.get():
            try:
                row = await self._row(summary)
            except NotThere as error:
                if error.code != "model-not-kept":
                    raise
                # The rounds were faster than the measuring.
                gone = Event("dropped", "its model was", summary.number, error.detail)
                self.watchers.on_event(gone)
                continue
            self.rows.append(row)
            if best_of(self.rows) is row and self._measured == row.round:
                self._best = self._held
            self.watchers.on_row(row)
        if self._paused:
            raise _Paused

    async def _row(self, summary: RoundSummary) -> Row:
        found = await self.client.models(self.experiment_id, after=summary.number - 2)
        models = {m.version: m for m in found}  # this one's, and the one before it
        if summary.number not in models:
            raise BadAnswer(
                f"Round {summary.number} is closed, and the coordinator has no model of it."
            )
        model = models[summary.number]
        measured = await self._evaluate(model)
        round_ = await self.client.round(self.experiment_id, summary.number)
        cohorts = [a.cohort for a in round_.earlier_attempts] + [round_.cohort]
        return Row(
            round=summary.number,
            accuracy=measured["accuracy"],
            loss=measured["loss"],
            seconds=_seconds(round_),
            bytes_up=summary.update_bytes,
            bytes_down=len({c for cohort in cohorts for c in cohort})
            * (models[round_.base_version].encoded or models[round_.base_version]).size,
            updates=summary.accepted,
            attempts=summary.attempt,
            sha256=model.sha256,
            federated=summary.metrics,
            refused={r.client: r.reason for r in round_.refused},
            missing=round_.missing,
        )

    async def _evaluate(self, model: ModelView) -> dict[str, float]:
        """The central test set's loss and accuracy; what was reported before is not done again."""
        for known in model.evaluations:
            if known.source == "central":
                return known.metrics
        weights = await self._download(model.version)
        self._measured = model.version
        result = await asyncio.to_thread(self._measure, weights)
        # The loss of a model that diverged is no JSON number.
        loss = min(result.loss, MAX_METRIC) if math.isfinite(result.loss) else MAX_METRIC
        metrics = {"accuracy": result.accuracy, "loss": loss}
        await self.client.report_evaluation(
            self.experiment_id, model.version, result.examples, metrics
        )
        return metrics

    async def _download(self, version: int) -> bytes:
        """The one that was fetched last is not sent again."""
        self._held = await self.client.download_model(
            self.experiment_id, version, self._part_bytes, direct=self._direct, held=self._held
        )
        return self._held

    def _measure(self, weights: bytes) -> Evaluation:
        load_bytes(self._model, weights)
        return evaluate(self._model, self._test_x, self.dataset.test_y)

    def _derive(self, purpose: str) -> str:
        return hmac.new(self._secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def _seconds(round_: RoundView) -> float:
    return (round_.closed_at - round_.opened_at).total_seconds() if round_.closed_at else 0.0
