"""The step that FedAdagrad, FedAdam and FedYogi share; they differ in their second moment.

Reddi et al., arXiv:2003.00295, algorithm 2. The second moment begins at tau squared, and nothing
corrects a bias: the paper's analysis needs it so, and tau bounds the first step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from serverless_fl.aggregation.settings import Beta1, ServerLearningRate, Tau
from serverless_fl.aggregation.strategy import RoundFacts, State, Strategy

if TYPE_CHECKING:
    import numpy as np


class Adaptive(Strategy):
    """A server whose step is smaller for weights that change much."""

    server_learning_rate: ServerLearningRate = 0.01
    beta1: Beta1 = 0.9
    tau: Tau = 0.001

    @property
    def state(self) -> Mapping[str, float]:
        return {"first_moment": 0.0, "second_moment": self.tau * self.tau}

    @abstractmethod
    def second_moment(self, moment: np.ndarray, squares: np.ndarray) -> np.ndarray:
        """Give the new second moment of the old one and the squares of the mean change."""

    def step(
        self, base: np.ndarray, reduced: Mapping[str, np.ndarray], state: State, facts: RoundFacts
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        import numpy as np

        change = reduced["weights"] - base
        first = self.beta1 * state["first_moment"] + (1 - self.beta1) * change
        second = self.second_moment(state["second_moment"], change * change)
        new = base + self.server_learning_rate * first / (np.sqrt(second) + self.tau)
        return new, {"first_moment": first, "second_moment": second}
