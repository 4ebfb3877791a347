"""Epsilon of Gaussian noise, in closed form.

Several releases with Gaussian noise compose to one with Gaussian noise: the squares of their
sensitivities, in units of the noise's deviation, add up. Its exact epsilon for a delta is that of
Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy", 2018, arXiv:1805.06530,
theorem 8. No bound is lost on the way, and tests hold it against the library dp-accounting.
"""

from __future__ import annotations

import math


def epsilon_of(sensitivity: float, delta: float) -> float:
    """Give the smallest epsilon that holds with `delta`, rounded upwards in its last digits.

    `sensitivity` is the Euclidean one in units of the noise's standard deviation.
    """
    if sensitivity == 0:
        return 0.0
    low, high = 0.0, sensitivity**2 / 2 + sensitivity * math.sqrt(2 * math.log(1 / delta))
    if _delta(sensitivity, 0.0) <= delta:
        return 0.0
    while high - low > 1e-12 * max(1.0, high):
        middle = (low + high) / 2
        if _delta(sensitivity, middle) <= delta:
            high = middle
        else:
            low = middle
    return high


def _delta(mu: float, epsilon: float) -> float:
    """Give the smallest delta that holds with `epsilon`."""
    upper = _log_below(mu / 2 - epsilon / mu)
    lower = epsilon + _log_below(-mu / 2 - epsilon / mu)
    return math.exp(upper) - math.exp(min(lower, upper))


def _log_below(x: float) -> float:
    """Give the logarithm of the probability that a standard normal number is below x."""
    if x > -30:
        return math.log(math.erfc(-x / math.sqrt(2)) / 2)
    inverse = 1 / (x * x)  # erfc underflows below -38
    series = 1 - inverse * (1 - 3 * inverse * (1 - 5 * inverse * (1 - 7 * inverse)))
    return -x * x / 2 - math.log(-x * math.sqrt(2 * math.pi)) + math.log(series)
