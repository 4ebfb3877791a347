"""How sure a measured figure is: by its repetitions, and by the size of its test set."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the mean of independent repetitions (Student, 1908); at least two values."""
    half = t.ppf((1 + confidence) / 2, len(values) - 1) * statistics.stdev(values)
    half /= math.sqrt(len(values))
    return statistics.mean(values) - half, statistics.mean(values) + half


def sampling_error(rate: float, examples: int) -> float:
    """The standard error of a rate that was measured on one test set of so many examples.

    Repetitions over the same test set don't show it: it is what another test set of the same size
    would change.
    """
    return math.sqrt(rate * (1 - rate) / examples)
