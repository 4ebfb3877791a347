"""The global models of an experiment: downloaded, and measured on the central test set."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence

from client_sdk.api.client import CoordinatorClient
from client_sdk.data.data import Data
from client_sdk.errors import BadAnswer, NotThere
from client_sdk.simulation.outcome import Row, best_of
from client_sdk.task import weights_file
from client_sdk.task.local import measure
from client_sdk.task.metrics import clean
from client_sdk.task.task import Task
from serverless_fl.domain.goal import ACCURACY, Goal
from serverless_fl.domain.metrics import MAX_METRIC, is_loss
from serverless_fl.domain.records import CENTRAL
from serverless_fl.wire.schema import CreatedExperiment
from serverless_fl.wire.views import ModelView, RoundSummary, RoundView


class GlobalModels:
    """Measures each new model of one experiment once, and keeps the last and the best."""

    def __init__(
        self,
        client: CoordinatorClient,
        experiment: CreatedExperiment,
        task: Task,
        test: Data,
        goal: Goal = ACCURACY,
        broadcast: Sequence[str] = (),
        on_dropped: Callable[[int, str], None] = lambda version, note: None,
    ) -> None:
        self.rows: list[Row] = []
        self._on_dropped = on_dropped
        self._client = client
        self._experiment = experiment
        self._task, self._test, self._goal = task, test, goal
        self._broadcast = broadcast
        self._last: bytes | None = None  # the model that was downloaded last
        self._last_version = 0
        self._best: bytes | None = None

    def _bytes_of_a_turn(self, base: ModelView) -> int:
        """What a client downloads to train: the model, and the strategy's state."""
        state = sum(base.state[name].size for name in self._broadcast if name in base.state)
        return (base.encoded or base).size + state

    async def measure(self, summary: RoundSummary) -> Row:
        """Measure the model that a closed round made, and append its row.

        Raises NotThere (code `model-not-kept`) where the coordinator keeps the model no more.
        """
        row = await self._row(summary)
        self.rows.append(row)
        if best_of(self.rows, self._goal) is row and self._last_version == row.round:
            self._best = self._last
        return row

    async def download(self, version: int) -> bytes:
        """A model's bytes; the coordinator does not send the last one again."""
        self._last = await self._client.download_model(
            self._experiment.id,
            version,
            self._experiment.part_bytes,
            direct=self._experiment.direct,
            held=self._last,
        )
        return self._last

    async def best(self) -> bytes | None:
        """The best round's model; None without rounds, or where the coordinator keeps it no more.

        A run that was resumed may have to download it again.
        """
        if not self.rows:
            return None
        best = best_of(self.rows, self._goal)
        if self._best is None or hashlib.sha256(self._best).hexdigest() != best.sha256:
            try:
                self._best = await self.download(best.round)
            except NotThere:
                return None
        return self._best

    async def _row(self, summary: RoundSummary) -> Row:
        found = await self._client.models(self._experiment.id, after=summary.number - 2)
        models = {m.version: m for m in found}  # this round's model, and its base
        if summary.number not in models:
            raise BadAnswer(
                f"Round {summary.number} is closed, and the coordinator has no model of it."
            )
        model = models[summary.number]
        metrics = await self._evaluate(model)
        round_ = await self._client.round(self._experiment.id, summary.number)
        base = models[round_.base_version]
        return Row(
            round=summary.number,
            metrics=metrics,
            seconds=_seconds(round_),
            bytes_up=summary.update_bytes,
            bytes_down=len(_invited(round_)) * self._bytes_of_a_turn(base),
            updates=summary.accepted,
            attempts=summary.attempt,
            sha256=model.sha256,
            federated=summary.metrics,
            refused={r.client: r.reason for r in round_.refused},
            missing=round_.missing,
        )

    async def _evaluate(self, model: ModelView) -> dict[str, float]:
        """The metrics on the test set: as reported before a run was resumed, or measured now and
        reported.
        """
        for known in model.evaluations:
            if known.source == CENTRAL:
                return known.metrics
        weights = await self.download(model.version)
        self._last_version = model.version
        result = await asyncio.to_thread(self._measure, weights)
        metrics, dropped = clean({name: _finite(name, value) for name, value in result.items()})
        for note in dropped:
            self._on_dropped(model.version, note)
        await self._client.report_evaluation(
            self._experiment.id, model.version, len(self._test), metrics
        )
        return metrics

    def _measure(self, weights: bytes) -> dict[str, float]:
        return measure(self._task, weights_file.read(weights), self._test)


def _finite(name: str, value: float) -> float:
    """The loss of a model that diverged is no JSON number: it becomes the largest there is."""
    return value if abs(value) <= MAX_METRIC or not is_loss(name) else MAX_METRIC


def _seconds(round_: RoundView) -> float:
    return (round_.closed_at - round_.opened_at).total_seconds() if round_.closed_at else 0.0


def _invited(round_: RoundView) -> set[str]:
    """The clients of the cohorts of all attempts."""
    cohorts: Sequence[Sequence[str]] = [
        *(attempt.cohort for attempt in round_.earlier_attempts),
        round_.cohort,
    ]
    return {client for cohort in cohorts for client in cohort}
