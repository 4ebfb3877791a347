"""Krum: the one update that has the nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from serverless_fl.aggregation.settings import Byzantine
from serverless_fl.aggregation.strategy import Reduction, Strategy, UpdateFacts

if TYPE_CHECKING:
    import numpy as np


class Krum(Strategy):
    """Takes the update with the least sum of squared distances to its n - f - 2 nearest ones.

    Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine Tolerant
    Gradient Descent", NeurIPS 2017, arXiv:1703.02757. A round needs n >= 2f + 3 updates.

    Choose it when you want one honest client's model rather than any mixture, and can spare the
    work of all the others. Multi-Krum learns faster.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> updates = [[1.0], [2.0], [4.0], [5.5], [1e6]]
    >>> aggregate(Krum(byzantine=1), [0.0], updates)[0]  # 2's nearest two: 1 + 4; 4's: 2.25 + 4
    array([2.])
    """

    reduction: ClassVar[Reduction] = Reduction.GEOMETRY

    name: Literal["krum"] = "krum"
    byzantine: Byzantine = 1

    def fault(self, updates: int) -> str | None:
        return krum_fault(self.byzantine, updates)

    def weights(self, gram: np.ndarray, updates: Sequence[UpdateFacts]) -> np.ndarray:
        from serverless_fl.aggregation.distances import choose, krum_order

        return choose(krum_order(gram, self.byzantine)[:1], len(gram))


def krum_fault(byzantine: int, updates: int) -> str | None:
    """Say why so many updates are too few for Krum's guarantee; None if they suffice."""
    if updates >= 2 * byzantine + 3:
        return None
    return (
        f"Krum with byzantine ({byzantine}) needs at least {2 * byzantine + 3} updates in a "
        f"round, not {updates}"
    )
