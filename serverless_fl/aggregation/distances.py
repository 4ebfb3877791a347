"""The distances between updates, made of their Gram matrix, and Krum's choice by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def squared_distances(gram: np.ndarray) -> np.ndarray:
    """The squared distance of each pair of updates, float64 [updates, updates].

    `gram`: the inner products of their changes. An update is infinitely far from itself, so that
    none is its own neighbour, and from one whose norm overflows.
    """
    import numpy as np

    squares = np.diagonal(gram)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        distances = squares[:, None] + squares[None, :] - 2 * gram
    distances[~np.isfinite(distances)] = np.inf
    np.maximum(distances, 0, out=distances)  # rounding may leave a little less
    np.fill_diagonal(distances, np.inf)
    found: np.ndarray = distances
    return found


def krum_order(gram: np.ndarray, byzantine: int) -> np.ndarray:
    """The updates from Krum's best to its worst, as indices [updates].

    The best has the least sum of squared distances to its n - f - 2 nearest, of which one is taken
    where there would be none. The shorter change wins a tie, so that the order of updates decides
    nothing.
    """
    import numpy as np

    near = max(1, len(gram) - byzantine - 2)
    scores = np.sort(squared_distances(gram), axis=1)[:, :near].sum(axis=1)
    order: np.ndarray = np.lexsort((np.diagonal(gram), scores))
    return order


def choose(chosen: np.ndarray, updates: int) -> np.ndarray:
    """Weights [updates]: 1 for the chosen indices, 0 for the others."""
    import numpy as np

    weights = np.zeros(updates)
    weights[chosen] = 1.0
    return weights
