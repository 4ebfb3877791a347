"""The median of each coordinate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from serverless_fl.aggregation.strategy import Reduction, Strategy, UpdateFacts

if TYPE_CHECKING:
    import numpy as np


class Median(Strategy):
    """Takes the median of each weight over the clients, whatever their numbers of examples.

    Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
    Statistical Rates", ICML 2018, arXiv:1803.01498, definition 1.

    Choose it when up to half of a round's clients may send anything, and you cannot say how many.
    The clients' data should be alike: the median ignores those that rightly differ.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> aggregate(Median(), [0.0, 0.0], [[1.0, 5.0], [2.0, 4.0], [1e6, -1e6]])[0]
    array([2., 4.])
    """

    reduction: ClassVar[Reduction] = Reduction.COLUMNS

    name: Literal["median"] = "median"

    def reduce(self, columns: np.ndarray, updates: Sequence[UpdateFacts]) -> np.ndarray:
        from serverless_fl.aggregation.sorting import in_order, medians

        return medians(in_order(columns))
