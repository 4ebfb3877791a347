"""The geometric median of whole updates: RFA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from serverless_fl.aggregation.strategy import Reduction, Strategy, UpdateFacts

if TYPE_CHECKING:
    import numpy as np

_NEAREST = 1e-6  # the paper's nu: distances below it count as it


class GeometricMedian(Strategy):
    """Takes the point with the least sum of distances to the updates, weighted by examples: RFA.

    Pillutla, Kakade, Harchaoui, "Robust Aggregation for Federated Learning", IEEE Transactions on
    Signal Processing 70, 2022, arXiv:1912.13445, algorithm 2: Weiszfeld's passes, each a mean whose
    weights are examples / max(1e-6, distance from the last mean). The paper stops after 4 passes,
    because a pass costs it a round of communication. Here a pass needs only the inner products of
    the updates, so there are more, and outliers lose all their influence.

    Choose it when up to half of the examples may be malicious, you cannot say how many clients are,
    and honest clients with many examples should count more than others. A client counts its own
    examples, up to the number that it declared when it enrolled.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> aggregate(GeometricMedian(), [0.0], [[1.0], [2.0], [1e6]])[0].round(3)
    array([2.])
    """

    reduction: ClassVar[Reduction] = Reduction.GEOMETRY

    name: Literal["geometric-median"] = "geometric-median"
    weiszfeld_passes: Annotated[
        int,
        Field(ge=1, le=1000, description="Passes of Weiszfeld after the plain mean"),
    ] = 100

    def weights(self, gram: np.ndarray, updates: Sequence[UpdateFacts]) -> np.ndarray:
        import numpy as np

        squares = np.diagonal(gram)
        counted = np.isfinite(squares)  # a change whose norm overflows gets no weight
        gram = np.where(counted[:, None] & counted[None, :], gram, 0.0)
        squares = np.where(counted, squares, 0.0)
        examples = np.where(counted, [float(update.num_examples) for update in updates], 0.0)
        if not counted.any():
            return np.ones(len(gram))
        weights: np.ndarray = examples / examples.sum()
        for _ in range(self.weiszfeld_passes):
            towards = np.add.reduce(gram * weights, axis=1)  # `@` has other last bits elsewhere
            size = np.add.reduce(weights * towards)
            distances = np.sqrt(np.maximum(squares - 2 * towards + size, 0))
            weights = examples / np.maximum(distances, _NEAREST)
            weights /= weights.sum()
        return weights
