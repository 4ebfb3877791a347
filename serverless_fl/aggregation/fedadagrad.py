"""FedAdagrad: steps that shrink with the sum of all squared changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from serverless_fl.aggregation.adaptive import Adaptive
from serverless_fl.aggregation.settings import Beta1

if TYPE_CHECKING:
    import numpy as np


class FedAdagrad(Adaptive):
    """Divides each weight's step by the root of the sum of its squared changes in all rounds.

    Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295, algorithm 2:
    m <- beta1 m + (1 - beta1) change; v <- v + change^2; x <- x + eta m / (sqrt(v) + tau).

    Choose it when gradients are sparse, as with words and other rare features, and the run is
    short: the steps only ever shrink.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> strategy = FedAdagrad(server_learning_rate=1.0, tau=0.75)
    >>> aggregate(strategy, [0.0], [[1.0]])[0]  # v = 0.75^2 + 1^2 = 1.25^2; 1 / (1.25 + 0.75)
    array([0.5])
    """

    name: Literal["fedadagrad"] = "fedadagrad"
    beta1: Beta1 = 0.0

    def second_moment(self, moment: np.ndarray, squares: np.ndarray) -> np.ndarray:
        new: np.ndarray = moment + squares
        return new
