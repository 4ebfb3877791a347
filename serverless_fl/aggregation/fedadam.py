"""FedAdam: steps that adapt to a running mean of squared changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from serverless_fl.aggregation.adaptive import Adaptive
from serverless_fl.aggregation.settings import Beta2

if TYPE_CHECKING:
    import numpy as np


class FedAdam(Adaptive):
    """Divides each weight's step by the root of a running mean of its squared changes.

    Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295, algorithm 2:
    m <- beta1 m + (1 - beta1) change; v <- beta2 v + (1 - beta2) change^2;
    x <- x + eta m / (sqrt(v) + tau). The paper corrects no bias, so neither does this.

    Choose it when FedAvg learns slowly and the sizes of changes differ much between layers, as in
    language models. Tune the server's learning rate first, then tau.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> strategy = FedAdam(server_learning_rate=1.0, beta1=0.5, beta2=0.5, tau=1.0)
    >>> aggregate(strategy, [0.0], [[7.0]])[0]  # m = 3.5; v = (1 + 49) / 2 = 25; 3.5 / (5 + 1)
    array([0.58333333])
    """

    name: Literal["fedadam"] = "fedadam"
    beta2: Beta2 = 0.99

    def second_moment(self, moment: np.ndarray, squares: np.ndarray) -> np.ndarray:
        return self.beta2 * moment + (1 - self.beta2) * squares
