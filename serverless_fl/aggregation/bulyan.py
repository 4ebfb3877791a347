"""Bulyan: Krum's choices, then a mean around the median of each coordinate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from serverless_fl.aggregation.settings import Byzantine
from serverless_fl.aggregation.strategy import Reduction, Strategy, UpdateFacts

if TYPE_CHECKING:
    import numpy as np


class Bulyan(Strategy):
    """Chooses n - 2f updates by Krum, and averages each weight's n - 4f values around the median.

    El Mhamdi, Guerraoui, Rouault, "The Hidden Vulnerability of Distributed Learning in Byzantium",
    ICML 2018, arXiv:1802.07927, section 4. Krum runs n - 2f times, and each time the update that
    it chooses leaves the others. A round needs n >= 4f + 3 updates.

    Choose it when malicious clients may hide one large weight in an update that is near the
    others as a whole, and rounds are large: it withstands half as many of them as Krum.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> updates = [[1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [1e6]]
    >>> aggregate(Bulyan(byzantine=1), [0.0], updates)[0]
    array([3.])
    """

    reduction: ClassVar[Reduction] = Reduction.CHOSEN_COLUMNS

    name: Literal["bulyan"] = "bulyan"
    byzantine: Byzantine = 1

    def fault(self, updates: int) -> str | None:
        if updates >= 4 * self.byzantine + 3:
            return None
        return (
            f"Bulyan with byzantine ({self.byzantine}) needs at least {4 * self.byzantine + 3} "
            f"updates in a round, not {updates}"
        )

    def weights(self, gram: np.ndarray, updates: Sequence[UpdateFacts]) -> np.ndarray:
        import numpy as np

        from serverless_fl.aggregation.distances import choose, krum_order

        left = np.arange(len(gram))
        chosen = []
        for _ in range(len(gram) - 2 * self.byzantine):
            best = krum_order(gram[np.ix_(left, left)], self.byzantine)[0]
            chosen.append(left[best])
            left = np.delete(left, best)
        return choose(np.array(chosen), len(gram))

    def reduce(self, columns: np.ndarray, updates: Sequence[UpdateFacts]) -> np.ndarray:
        """Average the n - 4f values nearest the median; the smaller of two at one distance wins."""
        import numpy as np

        from serverless_fl.aggregation.sorting import in_order, medians

        ordered = in_order(columns)
        median = medians(ordered)[:, None]
        size = len(columns) - 2 * self.byzantine
        # The values nearest the median stand side by side. Their first place moves up as long as
        # the value that leaves is further from the median than the one that comes.
        leaving, coming = ordered[:, :-size], ordered[:, size:]
        first = (median - leaving > coming - median).sum(axis=1)
        kept = first[:, None] + np.arange(size)
        mean: np.ndarray = np.take_along_axis(ordered, kept, axis=1).mean(axis=1)
        return mean
