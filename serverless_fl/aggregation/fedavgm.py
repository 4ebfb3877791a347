"""FedAvgM: FedAvg with momentum on the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from serverless_fl.aggregation.settings import ServerLearningRate, ServerMomentum
from serverless_fl.aggregation.strategy import RoundFacts, State, Strategy

if TYPE_CHECKING:
    import numpy as np


class FedAvgM(Strategy):
    """Moves the model along a running sum of the rounds' mean changes.

    Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification", 2019, arXiv:1909.06335: v <- beta v + mean change; x <- x + eta v.

    Choose it when clients' labels differ and FedAvg swings from round to round. With a momentum of
    0.9 a steady change is worth ten rounds of it, so a smaller learning rate may be needed.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> first, state = aggregate(FedAvgM(server_momentum=0.5), [0.0], [[1.0], [3.0]])
    >>> second, state = aggregate(FedAvgM(server_momentum=0.5), first, [[3.0], [5.0]], state=state)
    >>> first, second  # 0 + 2; then 2 + (0.5 * 2 + 2)
    (array([2.]), array([5.]))
    """

    name: Literal["fedavgm"] = "fedavgm"
    server_learning_rate: ServerLearningRate = 1.0
    server_momentum: ServerMomentum = 0.9

    @property
    def state(self) -> Mapping[str, float]:
        return {"velocity": 0.0}

    def step(
        self, base: np.ndarray, reduced: Mapping[str, np.ndarray], state: State, facts: RoundFacts
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        velocity = self.server_momentum * state["velocity"] + (reduced["weights"] - base)
        return base + self.server_learning_rate * velocity, {"velocity": velocity}
