"""Everything random in an experiment, as pure functions of its seed (docs/decisions/0006).

Every process computes the same draws, in every Python version. Keyed BLAKE2b is the only source of
randomness here, because `random` and NumPy do not promise the same sequences across versions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from hashlib import blake2b

# New experiments record this version of the rules. An older experiment keeps the rules that it
# recorded, because its shards must not change.
VERSION = 2
# Four Feistel rounds permuted small sets unevenly. Eight pass the tests above 64 positions. Below
# that a round mixes few bits, so small sets take more rounds.
_FEISTEL_ROUNDS = {1: 4, 2: 8}
_FEISTEL_ROUNDS_OF_SMALL_SETS = {1: 4, 2: 24}
_SMALL = 64


def shard_bounds(dataset_size: int, clients: int, slot: int) -> tuple[int, int]:
    """Give the first and the last place (exclusive) of a slot's shard in the shuffled data set.

    The sizes of two shards differ by at most one example.
    """
    base, extra = divmod(dataset_size, clients)
    start = slot * base + min(slot, extra)
    return start, start + base + (1 if slot < extra else 0)


def shard(
    seed: int, dataset_size: int, clients: int, slot: int, version: int = VERSION
) -> list[int]:
    """Draw the examples of one slot: indices into the data set, ascending.

    The shards of all slots are disjoint and cover the data set. `version` is the experiment's
    `draw_version`. Raises KeyError for a version that this module does not know. One index takes
    about ten microseconds, so a caller in an event loop draws a large shard in a thread.

    A keyed permutation of `range(dataset_size)` shuffles the data set. It is a Feistel network with
    cycle walking (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002), which permutes
    one index at a time: a shard takes time for its own size, not for the data set's.
    """
    permute = permutation(seed, dataset_size, version)
    return sorted(permute(i) for i in range(*shard_bounds(dataset_size, clients, slot)))


def permutation(seed: int, size: int, version: int = VERSION) -> Callable[[int], int]:
    """Draw a random permutation of `range(size)`. Raises KeyError for an unknown version."""
    rounds = _FEISTEL_ROUNDS_OF_SMALL_SETS if size <= _SMALL else _FEISTEL_ROUNDS
    return _Permutation(seed, size, rounds[version])


def cohort(seed: int, number: int, attempt: int, slots: Iterable[int], size: int) -> list[int]:
    """Draw `size` of `slots` uniformly, without replacement, for one attempt at a round; ascending.

    Takes all slots if there are fewer than `size`.
    """

    def key(slot: int) -> bytes:
        return _cohort_digest(seed, number, attempt, slot)

    return sorted(sorted(slots, key=key)[:size])


def ticket(seed: int, number: int, attempt: int, slot: int) -> float:
    """Draw a number in [0, 1) for a slot in an attempt. `cohort` takes the smallest ones."""
    digest = _cohort_digest(seed, number, attempt, slot)
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


def _cohort_digest(seed: int, number: int, attempt: int, slot: int) -> bytes:
    return _digest(seed, f"cohort {number} {attempt} {slot}")


def _digest(seed: int, text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8, key=str(seed).encode()).digest()


class _Permutation:
    """A bijection of `range(n)` onto itself, evaluated one index at a time."""

    def __init__(self, seed: int, n: int, rounds: int) -> None:
        self.n = n
        bits = max(2, math.ceil(math.log2(max(n, 2))))
        self.low_bits = bits // 2
        self.high_bits = bits - self.low_bits
        # The inner loop copies these keyed states: a copy takes half the time of a new one.
        self.states = [
            blake2b(f"shard {n} {r}".encode(), digest_size=8, key=str(seed).encode())
            for r in range(rounds)
        ]

    def __call__(self, index: int) -> int:
        # The network permutes the range up to the next power of two. Walk its cycle until the
        # value is below n.
        while (index := self._encrypt(index)) >= self.n:
            pass
        return index

    def _encrypt(self, value: int) -> int:
        left_bits, right_bits = self.high_bits, self.low_bits
        left, right = value >> right_bits, value & ((1 << right_bits) - 1)
        for state in self.states:
            mixer = state.copy()
            mixer.update(right.to_bytes(8, "big"))
            mixed = left ^ (int.from_bytes(mixer.digest(), "big") & ((1 << left_bits) - 1))
            left, right = right, mixed
            left_bits, right_bits = right_bits, left_bits
        return left << right_bits | right
