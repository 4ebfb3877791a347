"""Seeds, and random numbers that depend on all bits of a seed.

PyTorch's generator uses 32 bits of a seed, so two seeds of 63 bits can give the same numbers there.
NumPy's Philox uses 128 bits, and NumPy promises its sequence across versions (the compatibility
policy for bit generators). The code below uses that sequence and nothing else of NumPy's random
module. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np


def derive_seed(*parts: int | str) -> int:
    """A seed of 63 bits that is a function of all parts, in every process and version."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


class SeededRandom:
    """Random numbers that are a function of the seed, a whole number from 0 to 2**128 - 1.

    Raises ValueError for another seed.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(key=seed)

    def permutation(self, count: int) -> np.ndarray:
        """The numbers below `count` in a random order, int64 [count]."""
        # Two equal draws of 64 bits would keep their order: with a million numbers, once in 10**7.
        return np.argsort(self._bits.random_raw(count), kind="stable").astype(np.int64, copy=False)

    def uniform(self, shape: tuple[int, ...], bound: float) -> np.ndarray:
        """Numbers between -bound and bound, float32 of this shape."""
        draws = self._bits.random_raw(math.prod(shape)) >> np.uint64(11)  # a float64 holds 53 bits
        values = (draws.astype(np.float64) * 2.0**-52 - 1.0) * bound
        return values.astype(np.float32).reshape(shape)
