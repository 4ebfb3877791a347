"""What fine-tuning is worth: each client's figures before and after it, by its own report."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from serverless_fl.domain.metrics import is_rate
from serverless_fl.domain.records import CENTRAL
from serverless_fl.wire.views import ModelView

_AFTER = "_after"


def personal(models: Sequence[ModelView], epochs: int) -> dict[str, Any] | None:
    """The last model's figures at the clients that fine-tuned it, for the report; None without any.

    `metric` is the accuracy, else the loss, else the first. Each client counts alike in the mean;
    the spread is the standard deviation over them.
    """
    found = {e.source: e.metrics for e in models[-1].evaluations if e.source != CENTRAL}
    names = {n for metrics in found.values() for n in metrics if f"{n}{_AFTER}" in metrics}
    if not names:
        return None
    metric = min(names, key=lambda n: (n != "accuracy", n != "loss", n))
    pairs = {
        client: (metrics[metric], metrics[f"{metric}{_AFTER}"])
        for client, metrics in sorted(found.items())
        if metric in metrics and f"{metric}{_AFTER}" in metrics
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
        f"{name} {write(found['before'][name])} before and {write(found['after'][name])} after"
        for name in ("mean", "worst", "spread")
    )
    return (
        f"{found['metric']} of {len(found['clients'])} clients that fine-tuned the last model on "
        f"their own data, {found['epochs']} epochs: {figures}"
    )


def _figures(metric: str, values: Sequence[float]) -> dict[str, float]:
    worst = min(values) if is_rate(metric) else max(values)
    return {
        "mean": statistics.fmean(values),
        "worst": worst,
        "spread": statistics.pstdev(values),
    }
