"""The Gram matrix of the updates' differences from the base model, and weights out of it."""

from __future__ import annotations

import numpy as np

from serverless_fl.aggregation.stepping import StrategyFault
from serverless_fl.aggregation.strategy import MAX_WEIGHT

_CHUNK = 1 << 18  # values of all rows; the products of one chunk take 2 MiB
_ROUNDED = 2.0**36


def add_products(gram: np.ndarray, columns: np.ndarray, base: np.ndarray) -> None:
    """Add the inner products of the rows of `columns - base` to `gram` [rows, rows].

    `columns` [rows, elements] and `base` [elements] hold float64. Differences come first:
    |a|^2 + |b|^2 - 2ab of the weights themselves would be noise. NumPy's products and pairwise sums
    give the same bits on every IEEE 754 machine; matrix products of BLAS do not.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite product stays infinite
        step = max(1, _CHUNK // len(columns))
        for start in range(0, columns.shape[1], step):
            deltas = columns[:, start : start + step] - base[start : start + step]
            for row in range(len(deltas)):
                gram[row, row:] += np.add.reduce(deltas[row] * deltas[row:], axis=1)


def rounded(gram: np.ndarray) -> np.ndarray:
    """Give the whole matrix from its upper triangle, rounded to 36 bits, about eleven digits.

    The last bits depend on how the sums were cut. They must not decide ties, which are usual: two
    updates may be each other's nearest neighbours, and clipping gives many of them the same norm.
    """
    fractions, exponents = np.frexp(np.triu(gram))
    upper = np.ldexp(np.rint(fractions * _ROUNDED) / _ROUNDED, exponents)
    whole: np.ndarray = upper + np.triu(upper, 1).T
    return whole


def sound(weights: np.ndarray) -> list[float]:
    """Give weights of which a mean can be taken: halved until they sum to `MAX_WEIGHT` at most.

    Raises StrategyFault if one is negative or not finite, or if all are 0.
    """
    wide = np.asarray(weights, np.float64)
    with np.errstate(over="ignore"):
        top = float(wide.sum())
    if not (np.isfinite(top) and (wide >= 0).all() and top > 0):
        raise StrategyFault("The strategy cannot weigh the updates: they are too far apart.")
    while top > MAX_WEIGHT:
        wide, top = wide / 2, top / 2
    return [float(weight) for weight in wide]
