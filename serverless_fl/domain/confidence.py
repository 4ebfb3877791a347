"""A lower bound of a model's accuracy, from its accuracy on a few examples.

The coordinator tests an experiment's target after every round and stops at the first test that
passes. Each test can pass by luck, and many tests give luck many chances. So each test gets a small
risk of its own, and the risks of all rounds add up to `RISK`, however many rounds there are.
"""

from __future__ import annotations

import math

RISK = 0.1  # the probability that a whole run stops although its target is not met
_STEPS = 60  # of the bisection; a float64 has 53 bits, so more steps change nothing


def risk_after_round(number: int) -> float:
    """Give the risk of the test after round `number`, from 1. All of them add up to `RISK`."""
    return RISK / (number * (number + 1))  # 1/2 + 1/6 + 1/12 + ... is 1


def lower_bound(right: float, examples: int, risk: float) -> float:
    """Give a lower bound of the accuracy on all examples, given `right` of `examples` were right.

    The true accuracy is below the bound with a probability of at most `risk`. This is Chernoff's
    bound in Hoeffding's form ("Probability inequalities for sums of bounded random variables",
    1963, theorem 1): the smallest q with examples * KL(right / examples, q) at most log(1 / risk).
    It holds for any number of examples, also if they come from different distributions.
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
    """Give the fewest examples that show the target after round `number`, if all are right."""
    if target >= 1.0:
        return 2**63  # no number of examples shows an accuracy of 1
    return math.ceil(math.log(risk_after_round(number)) / math.log(target))


def _divergence(p: float, q: float) -> float:
    """The Kullback-Leibler divergence of two coins with the probabilities p and q, in nats."""
    if q <= 0.0:
        return math.inf
    found = p * math.log(p / q)
    if p < 1.0:
        found += (1.0 - p) * math.log((1.0 - p) / (1.0 - q))
    return found
