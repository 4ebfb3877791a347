"""The weighted mean of updates, one update at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

_CHUNK = 1 << 18  # elements; the products of one chunk take 2 MiB
MAX_EXAMPLES = 1 << 30  # the sum over all updates


class WeightedMean:
    """A weighted mean of any number of updates; it holds one array of float64 in memory.

    `add` takes one float64 product and one float64 addition for each element, in the order of the
    calls, so every IEEE 754 machine computes the same bytes. Sums of integers are exact below
    2**53.

    `size`: the number of elements.
    """

    def __init__(self, size: int) -> None:
        self.examples = 0
        self._sums = np.zeros(size)

    def add(self, update: Iterable[np.ndarray], num_examples: int) -> None:
        """Add one update: its values in order, in flat arrays of any lengths.

        Raises ValueError if the update does not have `size` values, if `num_examples` is below 1,
        or if all updates together have more than `MAX_EXAMPLES` examples.
        """
        self._count(num_examples)
        for sums, values in self._chunks(update):
            products = values.astype(np.float64)
            products *= num_examples
            np.add(sums, products, out=sums)

    def partial(self) -> np.ndarray:
        """The sums of all updates so far, float64 [size]; for `merge`."""
        return self._sums

    def merge(self, partial: Iterable[np.ndarray], num_examples: int) -> None:
        """Add the `partial` of another mean, in flat arrays of any lengths, and its examples.

        A float64 sum depends on its bracketing: two merges give the same bytes only if they merge
        the same groups in the same order. Raises ValueError as `add` does.
        """
        self._count(num_examples)
        for sums, values in self._chunks(partial):
            np.add(sums, values, out=sums)

    def result(self) -> np.ndarray:
        """The weighted means, float64 [size]. Overwrites the sums.

        Raises ValueError if nothing was added.
        """
        if not self.examples:
            raise ValueError("nothing to average")
        self._sums /= self.examples
        return self._sums

    def _count(self, num_examples: int) -> None:
        if num_examples < 1 or self.examples + num_examples > MAX_EXAMPLES:
            raise ValueError(f"{num_examples} examples: must be positive, {MAX_EXAMPLES} in all")
        self.examples += num_examples

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
