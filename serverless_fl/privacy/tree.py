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


def squares(rounds: Sequence[Collection[int]], *, another: bool = False) -> int:
    """Give the squared sensitivity of all nodes together, for the slot that moves them most.

    `rounds` are the slots whose updates are in each round. A slot that is in n rounds of a node
    moves it by n. With `another`, one more round closes, and the worst slot of all takes part.
    """
    total: dict[int, int] = {}
    for number in range(1, len(rounds) + 1):
        for slot, count in _counts(rounds, summed(number)).items():
            total[slot] = total.get(slot, 0) + count * count
    if not another:
        return max(total.values(), default=0)
    counts = _counts(rounds, summed(len(rounds) + 1))
    return max((found + (counts.get(slot, 0) + 1) ** 2 for slot, found in total.items()), default=1)


def _counts(rounds: Sequence[Collection[int]], numbers: range) -> dict[int, int]:
    found: dict[int, int] = {}
    for number in numbers:
        for slot in rounds[number - 1] if number <= len(rounds) else ():
            found[slot] = found.get(slot, 0) + 1
    return found
