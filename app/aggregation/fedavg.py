"""FedAvg: the mean of the clients' weights, weighted by their numbers of examples.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
AISTATS 2017, arXiv:1602.05629, algorithm 1: w <- sum_k (n_k / n) w_k. Choose it when the clients'
data are much alike, and first in any case: every other strategy is measured against it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_CHUNK = 1 << 16  # elements: a float64 chunk and its product stay in a core's cache
_SPLIT = 32  # integers are summed as high and low halves of this many bits
MAX_EXAMPLES = 1 << 30  # keeps the integer sums below 2**63


class FedAvg:
    """A streaming weighted mean: one accumulator of the model's size in float64, whatever comes.

    Sums run in float64 in the order of `add`, one product and one addition an element, so that the
    result is the same bytes on every IEEE 754 machine. Integer and boolean tensors (counters,
    masks) are summed exactly and their mean is rounded to the nearest whole number, ties to even.
    """

    def __init__(self) -> None:
        self.examples = 0
        self._sums: dict[str, np.ndarray] = {}
        self._dtypes: dict[str, np.dtype] = {}
        self._product = np.empty(_CHUNK, np.float64)

    def add(self, update: Iterable[tuple[str, np.ndarray]], num_examples: int) -> None:
        """Fold in one update: each tensor's name and its values, flat.

        Raises ValueError for counts out of range, and for other tensors than the first update's.
        """
        if num_examples < 1 or self.examples + num_examples > MAX_EXAMPLES:
            raise ValueError(f"{num_examples} examples: must be positive, {MAX_EXAMPLES} in all")
        seen = 0
        for name, values in update:
            total = self._sum_of(name, values)
            if values.dtype.kind == "f":
                self._add_floats(total, values, num_examples)
            else:
                _add_integers(total, values, num_examples)
            seen += 1
        if seen != len(self._sums):
            raise ValueError("the updates have different tensors")
        self.examples += num_examples

    def _sum_of(self, name: str, values: np.ndarray) -> np.ndarray:
        if not self.examples:
            self._dtypes[name] = values.dtype
            if values.dtype.kind == "f":
                self._sums[name] = np.zeros(values.size, np.float64)
            else:
                self._sums[name] = np.zeros((2, values.size), np.int64)
        total = self._sums.get(name)
        if total is None or total.shape[-1] != values.size or self._dtypes[name] != values.dtype:
            raise ValueError("the updates have different tensors")
        return total

    def _add_floats(self, total: np.ndarray, values: np.ndarray, weight: int) -> None:
        # In chunks, so that the products never take a third model's worth of memory.
        for start in range(0, len(values), _CHUNK):
            piece = values[start : start + _CHUNK]
            product = self._product[: len(piece)]
            np.multiply(piece, float(weight), out=product, dtype=np.float64)
            total[start : start + _CHUNK] += product

    def result(self) -> dict[str, np.ndarray]:
        """The weighted means by tensor name, flat: floats as float64. Consumes the sums.

        Raises ValueError where nothing was added.
        """
        if not self.examples:
            raise ValueError("nothing to average")
        means = {}
        for name, dtype in self._dtypes.items():
            total = self._sums.pop(name)
            if dtype.kind == "f":
                total /= self.examples
                means[name] = total
            else:
                means[name] = _integer_mean(total, self.examples, dtype)
        return means


def _add_integers(total: np.ndarray, values: np.ndarray, weight: int) -> None:
    """Add weight * values exactly: neither half can overflow while counts sum to under 2**30."""
    if values.itemsize == 8:
        total[0] += (values >> _SPLIT).astype(np.int64) * weight
        values = values & np.array((1 << _SPLIT) - 1, values.dtype)
    total[1] += values.astype(np.int64) * weight


def _integer_mean(total: np.ndarray, count: int, dtype: np.dtype) -> np.ndarray:
    """round(sum / count), ties to even, by long division of the two halves."""
    high, rest = np.divmod(total[0], count)
    rest = (rest << _SPLIT) + total[1]
    low, rest = np.divmod(rest, count)
    low += (2 * rest > count) | ((2 * rest == count) & (low & 1 == 1))
    if dtype == np.uint64:
        return np.asarray((high.astype(np.uint64) << np.uint64(_SPLIT)) + low.astype(np.uint64))
    return np.asarray((high << _SPLIT) + low)
