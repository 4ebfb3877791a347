"""Everything random in an experiment, as pure functions of its seed.

Any process may compute any of these at any time and gets what every other process gets, in every
Python version: keyed BLAKE2b is the only source of randomness here, because the sequences of
`random` and NumPy are not promised across versions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from hashlib import blake2b

VERSION = 2  # of the rules here that new experiments record; what an old one drew must stay
# Four Feistel rounds left small sets visibly uneven. Eight leave nothing to see above 64 positions;
# with fewer, a round mixes so few bits that it takes more of them.
_FEISTEL_ROUNDS = {1: 4, 2: 8}
_FEISTEL_ROUNDS_OF_SMALL_SETS = {1: 4, 2: 24}
_SMALL = 64


def shard_bounds(dataset_size: int, clients: int, slot: int) -> tuple[int, int]:
    """Where a slot's shard lies in the shuffled data set. Sizes differ by at most one."""
    base, extra = divmod(dataset_size, clients)
    start = slot * base + min(slot, extra)
    return start, start + base + (1 if slot < extra else 0)


def shard(
    seed: int, dataset_size: int, clients: int, slot: int, version: int = VERSION
) -> list[int]:
    """The example indices of one slot, ascending; shards are random, disjoint and cover the set.

    `version` is the experiment's; clients compute their shards by it, too. Raises KeyError for
    one that is not known here. An index takes some ten microseconds: many belong into a thread.

    The shuffle is a keyed permutation of `range(dataset_size)` that can be evaluated one index at
    a time (a Feistel network with cycle walking: Black and Rogaway, "Ciphers with arbitrary finite
    domains", 2002), so that a shard costs its own size and not the data set's.
    """
    permute = permutation(seed, dataset_size, version)
    return sorted(permute(i) for i in range(*shard_bounds(dataset_size, clients, slot)))


def permutation(seed: int, size: int, version: int = VERSION) -> Callable[[int], int]:
    """A random one-to-one map of `range(size)` onto itself. Raises KeyError for the version."""
    rounds = _FEISTEL_ROUNDS_OF_SMALL_SETS if size <= _SMALL else _FEISTEL_ROUNDS
    return _Permutation(seed, size, rounds[version])


def cohort(seed: int, number: int, attempt: int, slots: Iterable[int], size: int) -> list[int]:
    """Draw `size` of `slots` uniformly without replacement for one attempt at a round; ascending.

    Takes all of them where there are fewer.
    """

    def ticket(slot: int) -> bytes:
        return _digest(seed, f"cohort {number} {attempt} {slot}")

    return sorted(sorted(slots, key=ticket)[:size])


def next_cohort(  # one attempt's facts, each by name
    seed: int,
    number: int,
    attempt: int,
    *,
    enrolled: Collection[int],
    reported: Collection[int],
    absent: Collection[int],
    size: int,
) -> list[int]:
    """The cohort of a round's further attempt: who has reported stays, fresh clients fill it up.

    Clients that were `absent` from the last attempt are drawn only when no others are left.
    """
    kept = sorted(reported)
    fresh = [s for s in enrolled if s not in reported and s not in absent]
    drawn = cohort(seed, number, attempt, fresh, size - len(kept))
    spare = [s for s in enrolled if s in absent and s not in reported]
    drawn += cohort(seed, number, attempt, spare, max(0, size - len(kept) - len(drawn)))
    return sorted({*kept, *drawn})


def _digest(seed: int, text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8, key=str(seed).encode()).digest()


class _Permutation:
    """A bijection of `range(n)` onto itself, evaluated one index at a time."""

    def __init__(self, seed: int, n: int, rounds: int) -> None:
        self.n = n
        bits = max(2, math.ceil(math.log2(max(n, 2))))
        self.low_bits = bits // 2
        self.high_bits = bits - self.low_bits
        # Copying a keyed state costs half of making one, and this is the inner loop.
        self.states = [
            blake2b(f"shard {n} {r}".encode(), digest_size=8, key=str(seed).encode())
            for r in range(rounds)
        ]

    def __call__(self, index: int) -> int:
        # The network permutes the next power of two; walk its cycle until we are back in range.
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
