"""What a share of right answers on few examples proves of the share on all of them.

An experiment is looked at after every round, and stops at the first look that shows its target:
the best of many looks at few examples shows too much. So each look has a risk of its own of being
wrong, and all of them together have no more than `RISK`, however many follow.
"""

from __future__ import annotations

import math

RISK = 0.1  # of naming a target that is not met, in a whole run
_STEPS = 60  # of a bisection: more than a float64 has bits


def risk_of(number: int) -> float:
    """The risk that the look after round `number` takes. Over all rounds they add up to `RISK`."""
    return RISK / (number * (number + 1))


def lower_bound(right: float, examples: int, risk: float) -> float:
    """What the share is at least, but for a risk, where `right` of so many examples were right.

    Chernoff's bound in Hoeffding's form ("Probability inequalities for sums of bounded random
    variables", 1963, theorem 1): the smallest q with examples * KL(right / examples, q) at most
    log(1 / risk). It holds at every number of examples, and where they are not all alike.
    """
    if examples <= 0 or right <= 0:
        return 0.0
    share = min(right / examples, 1.0)
    most = -math.log(risk) / examples
    low, high = 0.0, share
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _divergence(share, middle) > most:
            low = middle
        else:
            high = middle
    return low


def least_examples(target: float, number: int) -> int:
    """How many examples can show the target at round `number`, if all of them are right."""
    if target >= 1.0:
        return 2**63  # no number of examples shows that
    return math.ceil(math.log(risk_of(number)) / math.log(target))


def _divergence(p: float, q: float) -> float:
    """Kullback and Leibler's, of a coin that falls with p from one with q; natural logarithm."""
    if q <= 0.0:
        return math.inf
    found = p * math.log(p / q)
    if p < 1.0:
        found += (1.0 - p) * math.log((1.0 - p) / (1.0 - q))
    return found
