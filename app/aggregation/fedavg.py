"""FedAvg: the mean of the clients' weights, weighted by their numbers of examples.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
AISTATS 2017, arXiv:1602.05629, algorithm 1: w <- sum_k (n_k / n) w_k. Choose it when the clients'
data are much alike, and first in any case: every other strategy is measured against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from app.aggregation.memory import LINE, on_lines

_CHUNK = 1 << 18  # elements; 2 MiB of products, see docs/decisions/0023
_SPLIT = 32  # integers are summed as high and low halves of this many bits
MAX_EXAMPLES = 1 << 30  # keeps the integer sums below 2**63


class FedAvg:
    """A streaming weighted mean: one accumulator of the model's size in float64, whatever comes.

    Sums run in float64 in the order of `add`, one product and one addition an element, so that the
    result is the same bytes on every IEEE 754 machine. Integer and boolean values (counters, masks)
    are summed exactly and their mean is rounded to the nearest whole number, ties to even.

    `floats`: float64 memory for the sums of as many floating-point values, whatever is in it.
    `integers`: how many other values there are.
    """

    def __init__(self, floats: np.ndarray, integers: int) -> None:
        self.examples = 0
        self._sums = (floats, np.zeros((2, integers), np.int64))
        self._sizes = [floats.size, integers]

    def add(self, update: Iterable[np.ndarray], num_examples: int) -> None:
        """Fold in one update: its values in order, in flat arrays of whatever lengths.

        Raises ValueError for counts out of range, and where there are more or fewer values.
        """
        first = not self.examples
        self._count(num_examples)
        weight = np.array(float(num_examples))  # a number of Python's takes NumPy longer
        products, ends = _Products.spare(), [0, 0]
        for values in update:
            sums = self._next(ends, values)
            if sums.ndim == 2:
                _add_integers(sums, values, num_examples)
            elif values.size <= _CHUNK:
                _add_floats(sums, values, weight, products, first)
            else:
                for start in range(0, values.size, _CHUNK):
                    chunk = slice(start, start + _CHUNK)
                    _add_floats(sums[chunk], values[chunk], weight, products, first)
        self._complete(ends)
        products.give_back()

    def _next(self, ends: list[int], values: np.ndarray) -> np.ndarray:
        """The sums of the values that come next, after those which end there.

        Raises ValueError where there are not so many.
        """
        kind = values.dtype.kind != "f"
        start = ends[kind]
        ends[kind] = stop = start + values.shape[-1]
        if stop > self._sizes[kind]:
            raise ValueError("the updates have different tensors")
        return self._sums[kind][..., start:stop]

    def _complete(self, ends: list[int]) -> None:
        if ends != self._sizes:
            raise ValueError("the updates have different tensors")

    def _count(self, num_examples: int) -> None:
        if num_examples < 1 or self.examples + num_examples > MAX_EXAMPLES:
            raise ValueError(f"{num_examples} examples: must be positive, {MAX_EXAMPLES} in all")
        self.examples += num_examples

    def partial(self) -> tuple[np.ndarray, np.ndarray]:
        """What was folded so far, for `merge`: float64 [floats] and int64 [2, integers]."""
        return self._sums

    def merge(self, partial: Iterable[np.ndarray], num_examples: int) -> None:
        """Fold in what another one folded, of updates with so many examples in all: its sums in
        order, in arrays as those of `partial` of whatever lengths.

        The result is that of one after the other only in the same groups: float64 sums depend on
        how they are bracketed. Raises ValueError as `add` does.
        """
        first, ends = not self.examples, [0, 0]
        self._count(num_examples)
        for values in partial:
            sums = self._next(ends, values)
            if first:
                np.copyto(sums, values)
            else:
                np.add(sums, values, out=sums)
        self._complete(ends)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """The weighted means: of floats as float64, of integers as int64. Consumes the sums.

        Raises ValueError where nothing was added.
        """
        if not self.examples:
            raise ValueError("nothing to average")
        floats, integers = self._sums
        self._sums = np.empty(0), np.empty((2, 0), np.int64)  # not views: those keep the memory
        floats /= self.examples
        return floats, _integer_mean(integers, self.examples)


def _add_floats(
    sums: np.ndarray,
    values: np.ndarray,
    weight: np.ndarray,
    products: _Products,
    first: bool,
) -> None:
    """Add weight * values; of the first update the products are written, and nothing is read."""
    product = sums if first else products.room(values.size)
    # Two steps: a multiplication that also converts takes longer than both of them.
    product[...] = values
    np.multiply(product, weight, product)
    np.add(0.0 if first else sums, product, sums)


class _Products:
    """Room for a chunk of products, in memory that the process keeps from one `add` to the next.

    Fresh memory takes longer than the arithmetic. Nothing in it outlasts the `add` that has it.
    """

    _spare: ClassVar[list[_Products]] = []  # no more than there were threads in `add` at a time

    def __init__(self) -> None:
        (self._memory,) = on_lines([_CHUNK])
        self._end = 0

    @classmethod
    def spare(cls) -> _Products:
        try:
            return cls._spare.pop()
        except IndexError:
            return cls()

    def give_back(self) -> None:
        self._spare.append(self)

    def room(self, size: int) -> np.ndarray:
        """For so many products, a chunk's at most; in another place each time: where the processor
        still holds what was there before, it reads the values at half the speed.
        """
        start = self._end + -self._end % LINE
        if start + size > _CHUNK:
            start = 0
        self._end = start + size
        return self._memory[start : self._end]


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
