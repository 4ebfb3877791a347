"""The reduction of columns: all updates' values of an element become one value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serverless_fl.aggregation.mean import WeightedMean
from serverless_fl.aggregation.strategy import Strategy, UpdateFacts

_CHUNK = 1 << 19  # values of one call of `reduce`; they take 4 MiB


def reduce_columns(
    strategy: Strategy,
    columns: np.ndarray,
    floats: np.ndarray,
    updates: Sequence[UpdateFacts],
    weights: Sequence[float],
) -> np.ndarray:
    """Reduce values [updates, elements] of any dtype to one for each element, float64.

    `floats` [elements] says which elements are floating-point numbers. The others take the mean by
    `weights` [updates], not rounded.
    """
    count, size = columns.shape
    found, step = np.empty(size), max(1, _CHUNK // count)
    for start in range(0, size, step):
        some = slice(start, start + step)
        wide, kept = columns[:, some].astype(np.float64), floats[some]
        if kept.all():
            found[some] = _reduce(strategy, wide, updates)
            continue
        out = found[some]
        if kept.any():
            out[kept] = _reduce(strategy, np.ascontiguousarray(wide[:, kept]), updates)
        mean = WeightedMean(int((~kept).sum()))
        for row, weight in zip(wide[:, ~kept], weights, strict=True):
            mean.add([row], weight)
        out[~kept] = mean.result()
    return found


def _reduce(strategy: Strategy, columns: np.ndarray, updates: Sequence[UpdateFacts]) -> np.ndarray:
    """Reduce one chunk.

    NumPy sums the rows of two or more columns in their order, but a single column pairwise. So a
    single column comes twice, and the bytes do not depend on how the model is cut.
    """
    if columns.shape[1] == 1:
        return strategy.reduce(np.repeat(columns, 2, axis=1), updates)[:1]
    return strategy.reduce(columns, updates)
