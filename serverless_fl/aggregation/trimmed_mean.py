"""The mean of each coordinate without its extremes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from serverless_fl.aggregation.settings import Byzantine
from serverless_fl.aggregation.strategy import Reduction, Strategy, UpdateFacts

if TYPE_CHECKING:
    import numpy as np


class TrimmedMean(Strategy):
    """Leaves out the f smallest and the f largest values of each weight, and averages the others.

    Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
    Statistical Rates", ICML 2018, arXiv:1803.01498, definition 2; clients count alike. The paper
    cuts a share. Here `byzantine` is the number cut on each side, because a share rounds down to
    nothing in a small round.

    Choose it when you can bound the number of malicious clients in a round: it wastes fewer of the
    honest updates than the median.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> aggregate(TrimmedMean(byzantine=1), [0.0], [[1.0], [3.0], [1e6], [-1e6]])[0]
    array([2.])
    """

    reduction: ClassVar[Reduction] = Reduction.COLUMNS

    name: Literal["trimmed-mean"] = "trimmed-mean"
    byzantine: Byzantine = 1

    def fault(self, updates: int) -> str | None:
        if updates > 2 * self.byzantine:
            return None
        return (
            f"the trimmed mean with byzantine ({self.byzantine}) needs at least "
            f"{2 * self.byzantine + 1} updates in a round, not {updates}"
        )

    def reduce(self, columns: np.ndarray, updates: Sequence[UpdateFacts]) -> np.ndarray:
        from serverless_fl.aggregation.sorting import in_order

        kept = in_order(columns)[:, self.byzantine : len(columns) - self.byzantine]
        mean: np.ndarray = kept.mean(axis=1)
        return mean
