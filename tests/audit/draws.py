"""How far the draws are from chance: each function gives a figure that a test or audit bounds."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

from serverless_fl.domain import draws


def too_far(observed: Sequence[int], expected: float) -> float:
    """Chi-square of counts, in standard deviations from its mean; 5 is beyond p = 1e-5."""
    freedom = len(observed) - 1
    chi = sum((count - expected) ** 2 / expected for count in observed)
    return (chi - freedom) / math.sqrt(2 * freedom)


def orders(size: int, each: int) -> float:
    """`too_far` of all orders of a small set, each of which comes `each` times on average."""
    found = Counter()
    for seed in range(each * math.factorial(size)):
        place = draws.permutation(seed, size)
        found[tuple(place(i) for i in range(size))] += 1
    possible = list(itertools.permutations(range(size)))
    assert set(found) <= set(possible)
    return too_far([found[order] for order in possible], each)


def places(size: int, seeds: int) -> tuple[float, float]:
    """How often each example comes to each place: the worst example, and all of them together."""
    counts = [[0] * size for _ in range(size)]
    for seed in range(seeds):
        place = draws.permutation(seed, size)
        for i in range(size):
            counts[i][place(i)] += 1
    found = [too_far(row, seeds / size) for row in counts]
    return max(found), abs(sum(found)) / math.sqrt(size)


def class_mix(size: int, seeds: int) -> float:
    """The variance of a class's share in shards over what chance gives; data sorted by class.

    The number of a class's examples in a shard is hypergeometric.
    """
    clients, classes = 4, 4
    each, of_class = size // clients, size // classes
    mean = each / classes
    variance = mean * (1 - 1 / classes) * (size - each) / (size - 1)
    squares = []
    for seed in range(seeds):
        for slot in range(clients):
            found = Counter(index // of_class for index in draws.shard(seed, size, clients, slot))
            squares += [(found[c] - mean) ** 2 for c in range(classes)]
    return sum(squares) / len(squares) / variance


def cohorts(rounds: int) -> float:
    """How far the worst of 20 clients is from being drawn in half of the rounds, in deviations."""
    times = [0] * 20
    for number in range(1, rounds + 1):
        for slot in draws.cohort(5, number, 1, range(20), 10):
            times[slot] += 1
    return max(abs(count - rounds / 2) for count in times) / math.sqrt(rounds / 4)
