"""How a simulation went: its rounds, and what it left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from serverless_fl.domain.goal import ACCURACY, Goal

if TYPE_CHECKING:  # `--help` imports this module, and need not wait for the models of all bodies
    from serverless_fl.wire.views import ExperimentView, ModelView


@dataclass(frozen=True)
class Row:
    """A closed round: what the new global model is worth on the test set, and what it took.

    `metrics` are the task's, by name. `bytes_up` are those of the accepted updates, `bytes_down`
    those of the model for each client of all attempts. `federated` holds the cohort's metrics,
    `refused` a reason by client, `missing` the clients without an update.
    """

    round: int
    metrics: dict[str, float]
    seconds: float
    bytes_up: int
    bytes_down: int
    updates: int
    attempts: int
    sha256: str
    federated: dict[str, float]
    refused: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def accuracy(self) -> float:
        """The share of right answers; NaN where the task does not measure it."""
        return self.metrics.get("accuracy", math.nan)

    @property
    def loss(self) -> float:
        """The mean loss; NaN where the task does not measure it."""
        return self.metrics.get("loss", math.nan)


def best_of(rows: Sequence[Row], goal: Goal = ACCURACY) -> Row:
    """The round whose model is best on the test set by the experiment's goal, and then the first.

    Of models without the goal's metric, or with equal values, the one with the lower loss is
    better. If the task measures neither, there is no better and worse: the last round counts.
    """

    def rank(row: Row) -> tuple[float, float, int]:
        found = row.metrics
        return goal.cost(goal.in_evaluation(found)), found.get("loss", math.inf), row.round

    best = min(rows, key=rank)
    return rows[-1] if rank(best)[:2] == (math.inf, math.inf) else best


@dataclass(frozen=True)
class Outcome:
    """How a simulation ended, with its rows, the last global model and the best (safetensors).

    `models` has every version with the evaluations that were reported of it. `best` is the model
    of `best_row`; None where there are no rounds, or where nobody keeps that model any more.
    """

    experiment: ExperimentView
    rows: list[Row]
    weights: bytes
    models: list[ModelView] = field(default_factory=list)
    best: bytes | None = None

    @property
    def best_row(self) -> Row:
        """The round with the best model on the test set, by the experiment's goal."""
        return best_of(self.rows, self.experiment.config.goal)
