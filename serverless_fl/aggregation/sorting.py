"""The values of each weight in order: what the median, the trimmed mean and Bulyan share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def in_order(columns: np.ndarray) -> np.ndarray:
    """Sort the values of each element: from [updates, elements] to [elements, updates].

    Sorting takes a third of the time of a partition, as in `numpy.median`. A partition also leaves
    an order, and so a rounding of sums, that differs between machines.
    """
    import numpy as np

    return np.sort(np.ascontiguousarray(columns.T), axis=1)


def medians(ordered: np.ndarray) -> np.ndarray:
    """The median of each row of sorted values [elements, updates]."""
    half = ordered.shape[1] // 2
    upper: np.ndarray = ordered[:, half]
    return upper if ordered.shape[1] % 2 else (ordered[:, half - 1] + upper) / 2
