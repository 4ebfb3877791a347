"""What models of the clients' own are worth, beside the global one, by the clients' reports.

A client makes its own by fine-tuning at the end, or beside the global one (Ditto).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from serverless_fl.domain.metrics import is_rate
from serverless_fl.domain.records import CENTRAL
from serverless_fl.wire.views import ModelView


def personal(models: Sequence[ModelView], epochs: int) -> dict[str, Any] | None:
    """Figures of the clients that have a model of their own, for the report; None without any.

    `before` is the last global model, `after` the client's own. `metric` is the accuracy, else the
    loss, else the first. Each client counts alike in the mean; the spread is the standard deviation
    over them.
    """
    found = {e.source: e.metrics for e in models[-1].evaluations if e.source != CENTRAL}
    names = {n for metrics in found.values() for n in metrics if _own(n, metrics) is not None}
    if not names:
        return None
    metric = min(names, key=lambda n: (n != "accuracy", n != "loss", n))
    pairs = {
        client: (metrics[metric], own)
        for client, metrics in sorted(found.items())
        if metric in metrics and (own := _own(metric, metrics)) is not None
    }
    before, after = zip(*pairs.values(), strict=True)
    return {
        "epochs": epochs,
        "metric": metric,
        "before": _figures(metric, before),
        "after": _figures(metric, after),
        "clients": [
            {"client": client, "before": first, "after": second}
            for client, (first, second) in pairs.items()
        ],
    }


def sentence(found: dict[str, Any]) -> str:
    """Mean, worst client and spread before and after, from a report."""
    write = "{:.2%}".format if is_rate(found["metric"]) else "{:.4f}".format
    figures = ", ".join(
        f"{name} {write(found['before'][name])} and {write(found['after'][name])}"
        for name in ("mean", "worst", "spread")
    )
    return (
        f"{found['metric']} of {len(found['clients'])} clients, of the last model and of the model "
        f"that each made its own: {figures}"
    )


def _own(metric: str, metrics: Mapping[str, float]) -> float | None:
    """The metric of the client's own model: fine-tuned, or trained beside the global one."""
    return metrics.get(f"{metric}_after", metrics.get(f"personal_{metric}"))


def _figures(metric: str, values: Sequence[float]) -> dict[str, float]:
    worst = min(values) if is_rate(metric) else max(values)
    return {
        "mean": statistics.fmean(values),
        "worst": worst,
        "spread": statistics.pstdev(values),
    }
