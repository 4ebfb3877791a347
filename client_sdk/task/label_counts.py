"""Counts the examples of each label, for a party that shares that with everybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from client_sdk.errors import DataError
from client_sdk.task.own_data.site import shortened
from serverless_fl.domain.label_counts import MAX_LABEL, MAX_LABELS


def label_counts(labels: Any, classes: Sequence[str] | None) -> dict[str, int]:
    """How many examples have each class. `labels` [N] are places in `classes`.

    An array or a tensor. Raises DataError for labels that are numbers, or of too many classes.
    """
    if not classes:
        raise DataError(
            "The labels of this experiment are no classes, so there is nothing to count: leave "
            "--share-labels (label_counts) out."
        )
    if len(classes) > MAX_LABELS:
        raise DataError(
            f"A party can share the counts of {MAX_LABELS} labels, and there are {len(classes)}: "
            "leave --share-labels (label_counts) out."
        )
    counts = np.bincount(np.asarray(labels, np.int64), minlength=len(classes))
    names = (shortened(name, MAX_LABEL) for name in classes)
    return {name: int(count) for name, count in zip(names, counts, strict=True)}
