"""The values that a metric can have, by its name. Both sides refuse any other value."""

from __future__ import annotations

import re

RATES = frozenset({"accuracy", "precision", "recall", "f1", "auc"})  # words of a metric's name
LOSSES = frozenset({"loss"})
METRIC_NAME = r"^[A-Za-z0-9_.:-]{1,64}$"
MAX_METRICS = 32  # of an update
MAX_METRIC = 1e30  # a weighted sum of such values cannot overflow


def metric_fault(name: str, value: float) -> str | None:
    """Say why a metric of this name cannot have this value; None if it can.

    The words in a name decide: `accuracy_before` is a rate and `train_loss` is a loss. A metric of
    any other name may have any value within `MAX_METRIC` of 0.
    """
    if not abs(value) <= MAX_METRIC:  # true for NaN as well
        return f"{name} is {value:g}: it must be finite, and within {MAX_METRIC:g} of 0"
    if is_rate(name) and not 0 <= value <= 1:
        return f"{name} is {value:g}: a rate lies between 0 and 1"
    if is_loss(name) and value < 0:
        return f"{name} is {value:g}: a loss is not negative"
    return None


def is_rate(name: str) -> bool:
    """Say whether a metric of this name is a rate, from 0 to 1, of which more is better."""
    return bool(_words(name) & RATES)


def is_loss(name: str) -> bool:
    """Say whether a metric of this name is a loss, which is not negative; less is better."""
    return bool(_words(name) & LOSSES)


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower()))
