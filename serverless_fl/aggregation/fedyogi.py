"""FedYogi: FedAdam whose second moment changes by bounded steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from serverless_fl.aggregation.adaptive import Adaptive
from serverless_fl.aggregation.settings import Beta2

if TYPE_CHECKING:
    import numpy as np


class FedYogi(Adaptive):
    """As FedAdam, but the second moment moves towards the squared change by a part of its size.

    Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295, algorithm 2:
    m <- beta1 m + (1 - beta1) change; v <- v - (1 - beta2) change^2 sign(v - change^2);
    x <- x + eta m / (sqrt(v) + tau).

    Choose it when FedAdam's steps jump up after a round of small changes: the second moment of
    FedYogi falls slowly. In the paper it is the best or close to it on most tasks.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> strategy = FedYogi(server_learning_rate=1.0, beta1=0.5, beta2=0.5, tau=1.0)
    >>> aggregate(strategy, [0.0], [[4.0]])[0]  # m = 2; v = 1 + 16 / 2 = 9; 2 / (3 + 1)
    array([0.5])
    """

    name: Literal["fedyogi"] = "fedyogi"
    beta2: Beta2 = 0.99

    def second_moment(self, moment: np.ndarray, squares: np.ndarray) -> np.ndarray:
        import numpy as np

        new: np.ndarray = moment - (1 - self.beta2) * squares * np.sign(moment - squares)
        return new
