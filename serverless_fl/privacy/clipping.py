"""Clipping: an update's distance from its base model, and the shortening of that distance.

The distance is the Euclidean norm of the difference, over all floating-point tensors together.
"""

from __future__ import annotations

import numpy as np


def clip(values: np.ndarray, base: np.ndarray, scale: float) -> np.ndarray:
    """Give the base plus `scale` times the difference from it, in float64."""
    wide = base.astype(np.float64)
    return np.asarray(wide + scale * (values.astype(np.float64) - wide))


def squared_distance(values: np.ndarray, base: np.ndarray) -> float:
    """Give the sum of the squared differences. It may be infinite."""
    with np.errstate(over="ignore"):  # the norm is infinite then, and no bound admits it
        difference = values.astype(np.float64) - base
        return float(np.sum(difference * difference))
