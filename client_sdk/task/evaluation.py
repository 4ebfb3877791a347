"""What a model is worth: class by class on the test set, and on the clients' own held-out data.

Federated evaluation as in Paulik et al., "Federated Evaluation and Tuning for On-Device
Personalization", arXiv:2102.08503: a model goes to the data, and only its metrics come back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from client_sdk.data.datasets import Dataset
from client_sdk.task.models import ModelSpec, build, load_bytes
from serverless_fl.domain.round import RoundState
from serverless_fl.wire.views import ModelView, RoundSummary

MOST_CLASSES = 100  # beyond, a matrix is neither read nor drawn by anyone
_BATCH = 1000
_METRICS = ("accuracy", "loss")


@dataclass(frozen=True)
class Classes:
    """Answers on a test set, counted: `confusion[t][p]` examples of class t were taken for p."""

    names: tuple[str, ...]
    confusion: list[list[int]]

    @property
    def examples(self) -> list[int]:
        """How many there are of each class."""
        return [sum(row) for row in self.confusion]

    @property
    def accuracy(self) -> float:
        """The share of right answers among all."""
        right = sum(row[label] for label, row in enumerate(self.confusion))
        return right / max(sum(self.examples), 1)

    @property
    def by_class(self) -> list[float | None]:
        """The share of right answers (recall) in each class; None for one without examples."""
        pairs = zip(self.confusion, self.examples, strict=True)
        return [row[t] / of if of else None for t, (row, of) in enumerate(pairs)]

    @property
    def worst(self) -> int:
        """The class with the lowest accuracy, the first of equals."""
        found = [(share, t) for t, share in enumerate(self.by_class) if share is not None]
        return min(found)[1]

    def taken_for(self, label: int) -> tuple[int, int] | None:
        """The class that examples of `label` were most often mistaken for, and how often."""
        wrong = [(-count, p) for p, count in enumerate(self.confusion[label]) if p != label]
        count, predicted = min(wrong, default=(0, 0))
        return (predicted, -count) if count else None


@torch.no_grad()
def by_class(weights: bytes, spec: ModelSpec, dataset: Dataset) -> Classes:
    """A model (safetensors) on the central test set. Raises DataError where it does not fit."""
    model = build(spec).eval()
    load_bytes(model, weights)
    count = len(dataset.classes)
    cells = torch.zeros(count * count, dtype=torch.int64)
    batches = zip(dataset.test_x.split(_BATCH), dataset.test_y.split(_BATCH), strict=True)
    for images, labels in batches:
        predicted = model(dataset.normalise(images)).argmax(1)
        cells += torch.bincount(labels * count + predicted, minlength=count * count)
    return Classes(dataset.classes, cells.view(count, count).tolist())


@dataclass(frozen=True)
class Federated:
    """Means over clients' held-out data; `weights` says what they are weighted by."""

    metrics: dict[str, float]
    clients: int
    examples: int
    weights: str


@dataclass(frozen=True)
class VersionFigures:
    """A model version: on the central test set, on the next cohort's data, on all clients'.

    `cohort` is what the next round's cohort found before it trained; `clients` what clients
    reported by themselves, as all of a simulation do of its last version.
    """

    version: int
    central: dict[str, float] | None
    cohort: Federated | None
    clients: Federated | None

    @property
    def federated(self) -> Federated | None:
        """The clients' own reports where there are any, else the cohort's."""
        return self.clients or self.cohort


def figures(history: Iterable[RoundSummary], models: Sequence[ModelView]) -> list[VersionFigures]:
    """Central and federated figures of each model version, from an experiment's records."""
    closed = {r.number: r for r in history if r.state is RoundState.CLOSED}
    return [
        VersionFigures(
            version=model.version,
            central=next(
                (_only(e.metrics) for e in model.evaluations if e.source == "central"), None
            ),
            # Round n trains version n - 1, whichever attempt it was that closed it.
            cohort=_of_cohort(closed.get(model.version + 1)),
            clients=_of_reports(model),
        )
        for model in models
    ]


def _of_cohort(round_: RoundSummary | None) -> Federated | None:
    if round_ is None:
        return None
    before = {name: f"{name}_before" for name in _METRICS}
    found = {n: round_.metrics[key] for n, key in before.items() if key in round_.metrics}
    if "accuracy" not in found:
        return None
    # Held out is a tenth of what is trained on, so the weights are in the same proportion.
    return Federated(found, round_.accepted, round_.num_examples, "examples trained on")


def _of_reports(model: ModelView) -> Federated | None:
    mine = [e for e in model.evaluations if e.source != "central" and "accuracy" in e.metrics]
    if not mine:
        return None
    means = {}
    for name in _METRICS:
        having = [e for e in mine if name in e.metrics]
        total = sum(e.num_examples for e in having)
        if having:
            means[name] = sum(e.metrics[name] * e.num_examples for e in having) / total
    return Federated(means, len(mine), sum(e.num_examples for e in mine), "examples held out")


def _only(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: metrics[name] for name in _METRICS if name in metrics}
