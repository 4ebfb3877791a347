"""Who shares secrets and masks with whom, and how many shares a secret needs.

Up to `COMPLETE` parties all are neighbours. Above, each has `degree` neighbours: the parties stand
in a circle, in an order that the digest of the attempt decides, and each has the same number of
neighbours on both sides (Bell et al. 2020, section 4). So the bytes of a party grow with the
logarithm of the cohort.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import comb

from serverless_fl.domain.experiment import FEWEST_IN_A_SUM

COMPLETE = 64  # parties that are all neighbours of one another
FEWEST = FEWEST_IN_A_SUM  # parties
SECURITY, FAILURE = 2.0**-40, 2.0**-20  # probabilities that the parameters stay below
DISHONEST, ABSENT = 0.1, 0.1  # shares of the parties that the parameters assume at most


@dataclass(frozen=True)
class Parameters:
    """`degree`: the neighbours of each party. `threshold`: the shares that give a secret back.

    A party keeps a share of its own secrets, so `degree` + 1 parties hold one.
    """

    degree: int
    threshold: int


@lru_cache(256)
def parameters(parties: int) -> Parameters:
    """Give the parameters for so many parties. Raises ValueError for fewer than `FEWEST`.

    Up to `COMPLETE` parties a secret needs more than two thirds of all. So a coordinator that tells
    half of the parties one thing and half another thing does not get both secrets of anybody, if
    fewer than a third collude with it. Above, the smallest degree is taken for which, with a tenth
    of the parties dishonest and another tenth absent at random, no secret can be had by such a
    coordinator (but with probability `SECURITY`), and each secret can be recovered (but with
    probability `FAILURE`).
    """
    if parties < FEWEST:
        raise ValueError(f"{parties} parties: secure aggregation needs {FEWEST}")
    if parties <= COMPLETE:
        return Parameters(parties - 1, 2 * parties // 3 + 1)
    others = parties - 1
    dishonest, absent = int(DISHONEST * parties), int(ABSENT * parties)
    for degree in range(2, others, 2):
        for threshold in range(degree // 2 + 1, degree + 1):
            if parties * _at_least(2 * threshold - degree, others, dishonest, degree) < SECURITY:
                lost = _at_least(degree - threshold + 1, others, absent, degree)
                if parties * lost < FAILURE:
                    return Parameters(degree, threshold)
                break  # a higher threshold loses more secrets
    return Parameters(others, 2 * parties // 3 + 1)


def confirmations(parties: int) -> int:
    """Give the signatures that a list of a sum needs: more than two thirds of all parties.

    Two lists with so many each have more than a third of the parties in common, and a party that
    follows the protocol signs one.
    """
    return 2 * parties // 3 + 1


def _at_least(fewest: int, population: int, marked: int, drawn: int) -> float:
    """The probability of so many marked ones among those drawn (hypergeometric)."""
    ways = sum(
        comb(marked, found) * comb(population - marked, drawn - found)
        for found in range(max(fewest, 0), min(marked, drawn) + 1)
    )
    return ways / comb(population, drawn)


def neighbours(slots: Collection[int], digest: bytes) -> Mapping[int, tuple[int, ...]]:
    """Give the neighbours of each slot, ascending. Raises ValueError as `parameters`.

    `digest` is that of the attempt; it decides the order of the circle. A process remembers some
    graphs, because each call of an attempt needs its own.
    """
    return _neighbours(tuple(sorted(slots)), digest)


@lru_cache(8)
def _neighbours(members: tuple[int, ...], digest: bytes) -> Mapping[int, tuple[int, ...]]:
    degree = parameters(len(members)).degree
    if degree == len(members) - 1:
        return {slot: tuple(s for s in members if s != slot) for slot in members}
    circle = sorted(members, key=lambda slot: hashlib.sha256(digest + slot.to_bytes(8)).digest())
    count, half = len(circle), degree // 2
    steps = [*range(-half, 0), *range(1, half + 1)]
    return {
        slot: tuple(sorted(circle[(place + step) % count] for step in steps))
        for place, slot in enumerate(circle)
    }
