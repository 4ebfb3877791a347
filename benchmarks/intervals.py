"""How sure a measured figure is: by its repetitions, and by the size of its test set."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Paired:
    """What repetitions in pairs show of two rates: the mean difference, ours less the other's.

    `interval` is that of 95 %. `verdict` is "equal within the margin" where both one-sided tests
    at 5 % reject a difference of the margin or more (Schuirmann, 1987), which is where the
    interval of 90 % lies within it; else "higher" or "lower" where the interval of 95 % excludes
    nought; else "no difference found", which is no equality.
    """

    mean: float
    interval: tuple[float, float]
    pairs: int
    verdict: str


def paired(ours: Sequence[float], theirs: Sequence[float], margin: float) -> Paired:
    """Compare runs that have the same seed. Raises ValueError for less than two pairs."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    if len(differences) < 2:
        raise ValueError("One pair shows nothing of how much pairs differ.")
    mean, wide = statistics.mean(differences), mean_interval(differences)
    narrow = mean_interval(differences, 0.9)
    verdict = "no difference found"
    if -margin < narrow[0] and narrow[1] < margin:
        verdict = "equal within the margin"
    elif not wide[0] <= 0 <= wide[1]:
        verdict = "higher" if mean > 0 else "lower"
    return Paired(mean, wide, len(differences), verdict)


def in_points(found: Paired, margin: float) -> str:
    """For a table: `-0.03 points (-0.14 to 0.08, n = 3): equal within 0.2 points`."""
    low, high = (100 * end for end in found.interval)
    verdict = found.verdict.replace("the margin", f"{100 * margin:g} points")
    return (
        f"{100 * found.mean:+.2f} points ({low:+.2f} to {high:+.2f}, n = {found.pairs}): {verdict}"
    )
