"""FedAvg: the mean of the clients' weights, weighted by their numbers of examples.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
AISTATS 2017, arXiv:1602.05629, algorithm 1: w <- sum_k (n_k / n) w_k. Choose it when the clients'
data are much alike, and first in any case: every other strategy is measured against it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_CHUNK = 1 << 17  # elements; reads of fewer in a row are slower, by half (docs/decisions/0019)
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
        self._sums: dict[str, np.ndarray] = {}  # float64; for integers two rows of int64
        self._product = np.empty(0)

    def add(self, update: Iterable[tuple[str, np.ndarray]], num_examples: int) -> None:
        """Fold in one update: each tensor's name and its values, flat.

        Raises ValueError for counts out of range, and for other tensors than the first update's.
        """
        first = not self.examples
        self._count(num_examples)
        seen = 0
        for name, values in update:
            floats = values.dtype.kind == "f"
            total = self._sums.get(name)
            if total is None and first:
                # Of floats the first update's products are written, and nothing is read there.
                total = np.empty(values.size) if floats else np.zeros((2, values.size), np.int64)
                self._sums[name] = total
            if total is None or total.shape[-1] != values.size or (total.ndim == 1) != floats:
                raise ValueError("the updates have different tensors")
            if floats:
                self._add_floats(total, values, num_examples, first=first)
            else:
                _add_integers(total, values, num_examples)
            seen += 1
        if seen != len(self._sums):
            raise ValueError("the updates have different tensors")

    def _count(self, num_examples: int) -> None:
        if num_examples < 1 or self.examples + num_examples > MAX_EXAMPLES:
            raise ValueError(f"{num_examples} examples: must be positive, {MAX_EXAMPLES} in all")
        self.examples += num_examples

    def _add_floats(
        self, total: np.ndarray, values: np.ndarray, weight: int, *, first: bool
    ) -> None:
        # In chunks, so that the products never take a third model's worth of memory; they stay in
        # one place, for memory that comes fresh from the system takes longer than the arithmetic.
        if len(self._product) < min(len(values), _CHUNK):
            self._product = np.empty(min(len(values), _CHUNK))
        for start in range(0, len(values), _CHUNK):
            piece, sums = values[start : start + _CHUNK], total[start : start + _CHUNK]
            product = self._product[: len(piece)]
            # Two steps: a multiplication that also converts takes longer than both of them.
            np.copyto(product, piece)
            product *= weight
            np.add(0.0 if first else sums, product, out=sums)

    def partial(self) -> dict[str, np.ndarray]:
        """What was folded so far, for `merge`: float64 or int64 arrays by tensor name, flat."""
        return {name: total.reshape(-1) for name, total in self._sums.items()}

    def merge(self, partial: Iterable[tuple[str, np.ndarray]], num_examples: int) -> None:
        """Fold in what another one folded, of updates with so many examples in all.

        The result is that of one after the other only in the same groups: float64 sums depend on
        how they are bracketed. Raises ValueError as `add` does.
        """
        self._count(num_examples)
        for name, values in partial:
            sums = values if values.dtype.kind == "f" else values.reshape(2, -1)
            if name not in self._sums:
                self._sums[name] = sums.copy()
            elif self._sums[name].shape != sums.shape:
                raise ValueError("the updates have different tensors")
            else:
                self._sums[name] += sums

    def result(self) -> dict[str, np.ndarray]:
        """The weighted means by tensor name, flat, as float64 or whole numbers. Consumes the sums.

        Raises ValueError where nothing was added.
        """
        if not self.examples:
            raise ValueError("nothing to average")
        means = {}
        while self._sums:
            name, total = self._sums.popitem()
            if total.ndim == 1:
                total /= self.examples
                means[name] = total
            else:
                means[name] = _integer_mean(total, self.examples)
        return means


def _add_integers(total: np.ndarray, values: np.ndarray, weight: int) -> None:
    """Add weight * values exactly: neither half can overflow while counts sum to under 2**30."""
    if values.itemsize == 8:
        total[0] += (values >> _SPLIT).astype(np.int64) * weight
        values = values & np.array((1 << _SPLIT) - 1, values.dtype)
    total[1] += values.astype(np.int64) * weight


def _integer_mean(total: np.ndarray, count: int) -> np.ndarray:
    """round(sum / count), ties to even, by long division of the two halves; modulo 2**64."""
    high, rest = np.divmod(total[0], count)
    rest = (rest << _SPLIT) + total[1]
    low, rest = np.divmod(rest, count)
    low += (2 * rest > count) | ((2 * rest == count) & (low & 1 == 1))
    # Unsigned means beyond 2**63 wrap here, and wrap back where they are cast to their own type.
    return np.asarray((high << _SPLIT) + low)
