"""The weighted mean of updates, one update at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from serverless_fl.aggregation.strategy import MAX_WEIGHT

_CHUNK = 1 << 18  # elements; the products of one chunk take 2 MiB


class WeightedMean:
    """A weighted mean of any number of updates; it holds one array of float64 in memory.

    `add` takes one float64 product and one float64 addition for each element, in the order of the
    calls, so every IEEE 754 machine computes the same bytes. Sums of integers are exact below
    2**53.

    `size`: the number of elements.
    """

    def __init__(self, size: int) -> None:
        self.total: float = 0  # of the weights; an integer while all weights are integers
        self._sums = np.zeros(size)

    def add(self, update: Iterable[np.ndarray], weight: float) -> None:
        """Add one update: its values in order, in flat arrays of any lengths.

        Raises ValueError if the update does not have `size` values, if `weight` is not positive, or
        if all updates together weigh more than `MAX_WEIGHT`.
        """
        self._count(weight)
        for sums, values in self._chunks(update):
            products = values.astype(np.float64)
            products *= weight
            np.add(sums, products, out=sums)

    def partial(self) -> np.ndarray:
        """The sums of all updates so far, float64 [size]; for `merge`."""
        return self._sums

    def merge(self, partial: Iterable[np.ndarray], weight: float) -> None:
        """Add the `partial` of another WeightedMean, in flat arrays of any lengths, and its total.

        A float64 sum depends on its bracketing: two merges give the same bytes only if they merge
        the same groups in the same order. Raises ValueError as `add` does.
        """
        self._count(weight)
        for sums, values in self._chunks(partial):
            np.add(sums, values, out=sums)

    def result(self) -> np.ndarray:
        """The weighted means, float64 [size]. Overwrites the sums.

        Raises ValueError if nothing was added.
        """
        if not self.total:
            raise ValueError("nothing to average")
        self._sums /= self.total
        return self._sums

    def _count(self, weight: float) -> None:
        if not 0 < weight <= MAX_WEIGHT - self.total:
            raise ValueError(f"a weight of {weight}: must be positive, {MAX_WEIGHT} in all")
        self.total += weight

    def _chunks(self, arrays: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield chunks of the sums, each with the update's values for it."""
        place = 0
        for array in arrays:
            for start in range(0, array.size, _CHUNK):
                values = array[start : start + _CHUNK]
                place += values.size
                if place > self._sums.size:
                    raise ValueError("the updates have different tensors")
                yield self._sums[place - values.size : place], values
        if place != self._sums.size:
            raise ValueError("the updates have different tensors")
