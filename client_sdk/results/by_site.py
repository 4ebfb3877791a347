"""The last model's worth at each client: on the examples that it held out, by its own report.

A mean over all examples hides a client at which the model is poor. Mohri et al., "Agnostic
Federated Learning", arXiv:1902.00146; Li et al., "Fair Resource Allocation in Federated Learning",
arXiv:1905.10497, report the worst clients and the spread.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from client_sdk.data.data import Data
from client_sdk.task import weights_file
from client_sdk.task.local import measure
from client_sdk.task.task import Task
from serverless_fl.domain.metrics import is_rate
from serverless_fl.domain.records import CENTRAL, client_id
from serverless_fl.wire.views import ModelView


@dataclass(frozen=True)
class Site:
    """One client's figures: `examples` are all its own, `held_out` those that it measured on.

    Of a test set by site, both are the site's test examples, and there is no client.
    """

    client: str
    site: str
    examples: int
    held_out: int
    value: float


@dataclass(frozen=True)
class BySite:
    """The `metric` at each client that reported it; each client counts alike in the mean."""

    metric: str
    sites: tuple[Site, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(site.value for site in self.sites)

    @property
    def spread(self) -> float:
        """The standard deviation over the clients."""
        return statistics.pstdev(site.value for site in self.sites)

    @property
    def worst(self) -> Site:
        """The client with the lowest rate or the highest loss, the first of equals."""
        pick = min if is_rate(self.metric) else max
        return pick(self.sites, key=lambda site: site.value)

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "metric": self.metric,
            "mean": self.mean,
            "worst": self.worst.value,
            "worst_site": self.worst.site,
            "spread": self.spread,
            "sites": [asdict(site) for site in self.sites],
        }


def test_sentence(found: dict[str, Any]) -> str:
    """The same on the test set, from a report."""
    return _said(found, f"on the test set by site, of {len(found['sites'])}")


def sentence(found: dict[str, Any]) -> str:
    """The mean, the worst client and the spread, from a report."""
    return _said(found, f"by client, on the held-out data of {len(found['sites'])}")


def _said(found: dict[str, Any], where: str) -> str:
    write = "{:.2%}".format if is_rate(found["metric"]) else "{:.4f}".format
    return (
        f"{found['metric']} {where}: mean {write(found['mean'])}, worst {write(found['worst'])} "
        f"({found['worst_site']}), spread {write(found['spread'])}"
    )


def by_test_site(
    task: Task, weights: bytes, test: Data, owners: np.ndarray | None
) -> BySite | None:
    """A model on the test examples of each site, which `owners` [N] names; None without sites."""
    if owners is None:
        return None
    found: list[tuple[str, int, dict[str, float]]] = []
    read = weights_file.read(weights)
    for name in sorted(set(owners.tolist())):
        places = np.flatnonzero(owners == name).tolist()
        found.append((str(name), len(places), measure(task, read, test.subset(places))))
    names = set.intersection(*(set(metrics) for _, _, metrics in found))
    metric = next((name for name in ("accuracy", "loss", *sorted(names)) if name in names), "")
    sites = [
        Site("", name, count, count, metrics[metric]) for name, count, metrics in found if metric
    ]
    return BySite(metric, tuple(sites)) if sites else None


def by_site(
    models: Sequence[ModelView], names: Sequence[str], sizes: Sequence[int]
) -> BySite | None:
    """The last model's figures at each client, from the clients' reports; None without any.

    `names` and `sizes` are the clients' sites and numbers of examples, by slot.
    """
    if not models:
        return None
    reports = {e.source: e for e in models[-1].evaluations if e.source != CENTRAL}
    metrics = {name for report in reports.values() for name in report.metrics}
    metric = next((name for name in ("accuracy", "loss", *sorted(metrics)) if name in metrics), "")
    sites = [
        Site(client_id(slot), name, size, report.num_examples, report.metrics[metric])
        for slot, (name, size) in enumerate(zip(names, sizes, strict=True))
        if (report := reports.get(client_id(slot))) is not None and metric in report.metrics
    ]
    return BySite(metric, tuple(sites)) if sites else None
