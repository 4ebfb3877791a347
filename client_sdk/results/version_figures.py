"""What each model version is worth, from an experiment's records.

Federated evaluation as in Paulik et al., "Federated Evaluation and Tuning for On-Device
Personalization", arXiv:2102.08503: a model goes to the data, and only its metrics come back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serverless_fl.domain.records import CENTRAL
from serverless_fl.domain.round import RoundState
from serverless_fl.wire.views import ModelView, RoundSummary

_BEFORE = "_before"  # ends the name of a metric that the cohort found before it trained


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
    """Central and federated figures of each model version."""
    closed = {r.number: r for r in history if r.state is RoundState.CLOSED}
    return [
        VersionFigures(
            version=model.version,
            central=next((dict(e.metrics) for e in model.evaluations if e.source == CENTRAL), None),
            # Round n trains version n - 1, whichever attempt closed it.
            cohort=_of_cohort(closed.get(model.version + 1)),
            clients=_of_reports(model),
        )
        for model in models
    ]


def _of_cohort(round_: RoundSummary | None) -> Federated | None:
    if round_ is None:
        return None
    found = {
        name.removesuffix(_BEFORE): value
        for name, value in round_.metrics.items()
        if name.endswith(_BEFORE)
    }
    if not found:
        return None
    # A client holds out a tenth of its examples, so the weights are in the same proportion.
    return Federated(found, round_.accepted, round_.num_examples, "examples trained on")


def _of_reports(model: ModelView) -> Federated | None:
    of_clients = [e for e in model.evaluations if e.source != CENTRAL]
    measured = dict.fromkeys(name for e in of_clients for name in e.metrics)
    leading = next((name for name in ("accuracy", "loss", *measured) if name in measured), "")
    reports = [e for e in of_clients if leading in e.metrics]
    if not reports:
        return None
    means = {}
    for name in dict.fromkeys(name for e in reports for name in e.metrics):
        having = [e for e in reports if name in e.metrics]
        total = sum(e.num_examples for e in having)
        means[name] = sum(e.metrics[name] * e.num_examples for e in having) / total
    examples = sum(e.num_examples for e in reports)
    return Federated(means, len(reports), examples, "examples held out")
