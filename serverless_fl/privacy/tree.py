"""Sums of rounds that share their noise: a tree whose nodes are sums of neighbouring rounds.

The model after a round is the initial one plus the sum of all rounds so far. Where each round
has noise of its own, that sum has as much noise as rounds. Here each round's noise belongs to a
node: the sum of the rounds from some earlier one up to it, as many as the largest power of 2 that
divides its place (Fenwick, "A New Data Structure for Cumulative Frequency Tables", 1994). Every sum
of all rounds so far is a sum of a few nodes, one for each 1 in the binary digits of their number,
and so it has the noise of a few nodes.

Rounds are numbered from 1.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple


def summed(number: int) -> range:
    """Give the rounds that the node of a round sums."""
    return range(number - (number & -number) + 1, number + 1)


def replaced(number: int) -> tuple[int, ...]:
    """Give the earlier rounds whose nodes the node of a round takes the place of."""
    first, found, node = summed(number).start, list[int](), number - 1
    while node >= first:
        found.append(node)
        node &= node - 1
    return tuple(found)


class Squares(NamedTuple):
    """The squared sensitivity of all nodes together, for the slot that moves them most.

    `coming` is what it is after one more round, in which the worst slot of all takes part.
    """

    now: int
    coming: int


def squares(rounds: Sequence[Collection[int]]) -> Squares:
    """Give the squared sensitivity of the nodes of these rounds, each the slots of its updates.

    A slot that is in n rounds of a node moves it by n.
    """
    total: dict[int, int] = {}
    for number in range(1, len(rounds) + 1):
        for slot, count in _counts(rounds, summed(number)).items():
            total[slot] = total.get(slot, 0) + count * count
    counts = _counts(rounds, summed(len(rounds) + 1))
    coming = (found + (counts.get(slot, 0) + 1) ** 2 for slot, found in total.items())
    return Squares(max(total.values(), default=0), max(coming, default=1))


def _counts(rounds: Sequence[Collection[int]], numbers: range) -> dict[int, int]:
    found: dict[int, int] = {}
    for number in numbers:
        for slot in rounds[number - 1] if number <= len(rounds) else ():
            found[slot] = found.get(slot, 0) + 1
    return found
