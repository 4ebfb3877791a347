"""FedAvg: the mean of the clients' weights, weighted by their numbers of examples.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
AISTATS 2017, arXiv:1602.05629, algorithm 1: w <- sum_k (n_k / n) w_k. Choose it when the clients'
data are much alike, and first in any case: every other strategy is measured against it.
"""

from __future__ import annotations

import numpy as np

from app.wire.codec import FLOATS, Layout, arrays, layout_of

_CHUNK = 1 << 16  # elements: a float64 chunk and its product stay in a core's cache
_SPLIT = 32  # integers are summed as high and low halves of this many bits
MAX_EXAMPLES = 1 << 30  # keeps the integer sums below 2**63


class FedAvg:
    """A streaming weighted mean: one accumulator of the model's size in float64, whatever comes.

    Sums run in float64 in the order of `add`, one product and one addition an element, so that the
    result is the same bytes on every IEEE 754 machine. Integer and boolean tensors (counters,
    masks) are summed exactly and their mean is rounded to the nearest whole number, ties to even.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.examples = 0
        self._sums: dict[str, np.ndarray] = {}
        for tensor in layout.tensors:
            size = int(np.prod(tensor.shape, dtype=np.int64))
            if tensor.dtype in FLOATS:
                self._sums[tensor.name] = np.zeros(size, np.float64)
            else:
                self._sums[tensor.name] = np.zeros((2, size), np.int64)
        self._product = np.empty(_CHUNK, np.float64)

    def add(self, update: bytes | bytearray, num_examples: int) -> None:
        """Fold in one update of `num_examples` examples.

        Raises ValueError for counts out of range, BadWeights for other tensors than the model's.
        """
        if num_examples < 1 or self.examples + num_examples > MAX_EXAMPLES:
            raise ValueError(f"{num_examples} examples: must be positive, {MAX_EXAMPLES} in all")
        theirs = layout_of(update)
        self.layout.require_same_tensors(theirs)
        for tensor, values in arrays(theirs, update):
            if tensor.dtype in FLOATS:
                self._add_floats(self._sums[tensor.name], values, num_examples)
            else:
                _add_integers(self._sums[tensor.name], values, num_examples)
        self.examples += num_examples

    def _add_floats(self, total: np.ndarray, values: np.ndarray, weight: int) -> None:
        # In chunks, so that the products never take a third model's worth of memory.
        for start in range(0, len(values), _CHUNK):
            piece = values[start : start + _CHUNK]
            product = self._product[: len(piece)]
            np.multiply(piece, float(weight), out=product, dtype=np.float64)
            total[start : start + _CHUNK] += product

    def result(self) -> dict[str, np.ndarray]:
        """The weighted means, flat, by tensor name. Consumes the sums."""
        if not self.examples:
            raise ValueError("nothing to average")
        means = {}
        for tensor in self.layout.tensors:
            total = self._sums.pop(tensor.name)
            if tensor.dtype in FLOATS:
                total /= self.examples
                means[tensor.name] = total
            else:
                means[tensor.name] = _integer_mean(total, self.examples, tensor.dtype)
        return means


def _add_integers(total: np.ndarray, values: np.ndarray, weight: int) -> None:
    """Add weight * values exactly: neither half can overflow while counts sum to under 2**30."""
    if values.dtype == np.bool_:
        values = values.view(np.uint8)
    total[0] += (values >> _SPLIT if values.itemsize == 8 else values * 0).astype(np.int64) * weight
    low = values & np.array((1 << _SPLIT) - 1, values.dtype) if values.itemsize == 8 else values
    total[1] += low.astype(np.int64) * weight


def _integer_mean(total: np.ndarray, count: int, dtype: str) -> np.ndarray:
    """round(sum / count), ties to even, by long division of the two halves."""
    high, rest = np.divmod(total[0], count)
    rest = (rest << _SPLIT) + total[1]
    low, rest = np.divmod(rest, count)
    low += (2 * rest > count) | ((2 * rest == count) & (low & 1 == 1))
    if dtype == "U64":
        return (high.astype(np.uint64) << np.uint64(_SPLIT)) + low.astype(np.uint64)
    return (high << _SPLIT) + low
