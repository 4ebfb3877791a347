"""The metric by which an experiment tells better models from worse ones.

The coordinator keeps the best model by it and may stop at a target; the SDK writes the best model
by it into a run's folder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from serverless_fl.domain.metrics import is_loss, is_rate, metric_fault

BEFORE = "_before"  # ends the name of what a client measures of the global model before it trains
HIGHER, LOWER = "higher", "lower"


@dataclass(frozen=True)
class Goal:
    """A metric, by the name that updates have for it, and whether a higher value is better.

    `pooled`: the metric is a rate, of which the held-out examples of several clients and rounds
    can be pooled.
    """

    metric: str
    higher: bool = True

    @property
    def pooled(self) -> bool:
        return self.higher and is_rate(self.metric)

    def in_update(self, metrics: Mapping[str, float]) -> float | None:
        """The value in the metrics of an update or a round: `auc` may stand there as `auc_before`.

        None if there is none.
        """
        return metrics.get(self.metric, metrics.get(f"{self.metric}{BEFORE}"))

    def in_evaluation(self, metrics: Mapping[str, float]) -> float | None:
        """The value in an evaluation of a model, which has no before and after."""
        return metrics.get(self.metric, metrics.get(self.metric.removesuffix(BEFORE)))

    def is_better(self, value: float, than: float) -> bool:
        """Say whether a value is better than another one; equal ones are not."""
        return value > than if self.higher else value < than

    def meets(self, value: float, target: float) -> bool:
        """Say whether a value is at the target, or better."""
        return not self.is_better(target, value)

    def cost(self, value: float | None) -> float:
        """A number that is lower for better values, and infinite for none."""
        if value is None or math.isnan(value):
            return math.inf
        return -value if self.higher else value


ACCURACY = Goal("accuracy_before")  # of experiments that name no metric


def goal_of(metric: str | None, better: str | None) -> Goal:
    """The goal of settings: `better` is HIGHER or LOWER, or None where the name says it.

    Raises ValueError for a name that does not.
    """
    if metric is None:
        return ACCURACY
    if better is None:
        if not is_rate(metric) and not is_loss(metric):
            raise ValueError(
                f"target_metric ({metric}) is neither a rate nor a loss by its name: say with "
                "target_better whether higher or lower values are better."
            )
        return Goal(metric, is_rate(metric))
    return Goal(metric, better == HIGHER)


def target_fault(metric: str | None, value: float | None, better: str | None) -> str | None:
    """Say why the settings of a goal contradict each other; None if they do not."""
    if metric is None:
        for name, given in (("target_value", value), ("target_better", better)):
            if given is not None:
                return f"{name} ({given}) needs a target_metric."
        return None
    try:
        goal_of(metric, better)
    except ValueError as error:
        return str(error)
    if value is not None and (fault := metric_fault(metric, value)) is not None:
        return f"target_value: {fault}."
    return None
