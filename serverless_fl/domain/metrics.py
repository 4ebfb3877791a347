"""What a metric can be, by its name. Both sides hold to it: no client can report the impossible."""

from __future__ import annotations

import re

RATES = frozenset({"accuracy", "precision", "recall", "f1", "auc"})  # as words of a name
LOSSES = frozenset({"loss"})
MAX_METRIC = 1e30  # so that a weighted mean of them cannot overflow


def fault(name: str, value: float) -> str | None:
    """Why a metric of this name cannot have this value; None where it can.

    `accuracy_before` is a rate and `train_loss` a loss, because of the words in their names. Of any
    other name it is only asked that the value is finite.
    """
    if not abs(value) <= MAX_METRIC:  # so NaN, too
        return f"{name} is {value:g}: it must be finite, and within {MAX_METRIC:g} of 0"
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    if words & RATES and not 0 <= value <= 1:
        return f"{name} is {value:g}: a rate lies between 0 and 1"
    if words & LOSSES and value < 0:
        return f"{name} is {value:g}: a loss is not negative"
    return None
