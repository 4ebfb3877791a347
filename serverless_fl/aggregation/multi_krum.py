"""Multi-Krum: the mean of the updates that Krum likes best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from serverless_fl.aggregation.krum import krum_fault
from serverless_fl.aggregation.settings import Byzantine
from serverless_fl.aggregation.strategy import Reduction, Strategy, UpdateFacts

if TYPE_CHECKING:
    import numpy as np


class MultiKrum(Strategy):
    """Averages the m updates with Krum's least scores, whatever their numbers of examples.

    Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine Tolerant
    Gradient Descent", NeurIPS 2017, arXiv:1703.02757. A client's own count of examples gives it no
    weight, because a malicious one would overstate it.

    Choose it when you can bound the number of malicious clients in a round, and whole updates are
    malicious rather than single weights. It learns nearly as fast as FedAvg.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> updates = [[1.0], [2.0], [4.0], [5.0], [1e6]]
    >>> aggregate(MultiKrum(byzantine=1), [0.0], updates)[0]  # without the last
    array([3.])
    """

    reduction: ClassVar[Reduction] = Reduction.GEOMETRY

    name: Literal["multi-krum"] = "multi-krum"
    byzantine: Byzantine = 1
    keep: Annotated[
        int | None,
        Field(ge=1, le=10_000, description="Updates to average (m); without it, all but f"),
    ] = None

    def fault(self, updates: int) -> str | None:
        if self.keep is not None and self.keep > updates - self.byzantine:
            return (
                f"Multi-Krum keeps {self.keep} updates and leaves out {self.byzantine}, so it "
                f"needs at least {self.keep + self.byzantine} in a round, not {updates}"
            )
        return krum_fault(self.byzantine, updates)

    def weights(self, gram: np.ndarray, updates: Sequence[UpdateFacts]) -> np.ndarray:
        from serverless_fl.aggregation.distances import choose, krum_order

        keep = self.keep or len(gram) - self.byzantine
        return choose(krum_order(gram, self.byzantine)[:keep], len(gram))
