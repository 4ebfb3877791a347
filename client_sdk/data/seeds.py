"""Random numbers that depend on all bits of a seed.

PyTorch's generator takes 32 bits of a seed, so that two seeds of 63 bits may be the same one to it.
NumPy's Philox takes 128, and its sequence is promised across versions (NumPy's compatibility
policy for bit generators); what is made of it here needs no other promise. Salmon et al., "Parallel
random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math

import numpy as np
import torch


class Dice:
    """A sequence of draws that is a function of the seed, a whole number from 0 to 2**128 - 1.

    Raises ValueError for another seed.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(key=seed)

    def permutation(self, count: int) -> torch.Tensor:
        """The numbers below `count` in a random order, int64 [count]."""
        # Two equal draws of 64 bits would keep their order: with a million numbers, once in 10**7.
        return torch.from_numpy(np.argsort(self._bits.random_raw(count), kind="stable"))

    def uniform(self, shape: tuple[int, ...], bound: float) -> torch.Tensor:
        """Numbers between -bound and bound, float32 of this shape."""
        draws = self._bits.random_raw(math.prod(shape)) >> np.uint64(11)  # as many as a float64 has
        values = (draws.astype(np.float64) * 2.0**-52 - 1.0) * bound
        return torch.from_numpy(values.astype(np.float32)).reshape(shape)
