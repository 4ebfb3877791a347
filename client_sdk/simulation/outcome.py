"""How a simulation went: its rounds, and what it left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `--help` imports this module, and need not wait for the models of all bodies
    from serverless_fl.wire.views import ExperimentView, ModelView


@dataclass(frozen=True)
class Row:
    """A closed round: what the new global model is worth on the test set, and what it took.

    `bytes_up` are those of the accepted updates, `bytes_down` those of the model for each client of
    all attempts. `federated` holds the cohort's metrics, `refused` a reason by client, `missing`
    the clients without an update.
    """

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
    of `best_of(rows)`; None where there are no rounds, or where nobody keeps that model any more.
    """

    experiment: ExperimentView
    rows: list[Row]
    weights: bytes
    models: list[ModelView] = field(default_factory=list)
    best: bytes | None = None
