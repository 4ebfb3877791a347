"""SCAFFOLD: control variates take the clients' drift out of their steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from serverless_fl.aggregation.settings import ServerLearningRate
from serverless_fl.aggregation.strategy import (
    RoundFacts,
    State,
    Strategy,
    TrainingFacts,
    UpdateFacts,
)

if TYPE_CHECKING:
    import numpy as np

CONTROL = "control"


class Scaffold(Strategy):
    """Averages the changes and, with them, an estimate of the gradient that corrects the clients.

    Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML
    2020, arXiv:1910.06378, algorithm 1 with option II. A client takes K steps
    y <- y - eta_l (gradient - c_i + c), and keeps c_i' = c_i - c + (x - y) / (K eta_l). The server:
    x <- x + eta mean change; c <- c + (S / N) mean (c_i' - c_i). The companion "control" of an
    update is c_i' - c_i, and the clients get c, the state's "control", with the model. Clients
    count alike. One that loses its c_i begins again at 0, and 1 / N of the lost one stays in c.

    Choose it when the clients' data differ much and each takes part again and again, so that its
    control variate stays fresh. Its clients use plain SGD, and travel twice the bytes. Under a
    buffered schedule the control of a stale update counts in full, so c stays the mean of all c_i.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> controls = {"control": [[4.0], [2.0]]}
    >>> aggregate(Scaffold(), [0.0], [[1.0], [3.0]], companions=controls, clients=6)
    (array([2.]), {'control': array([1.])})
    """

    companions: ClassVar[tuple[str, ...]] = (CONTROL,)
    broadcast: ClassVar[tuple[str, ...]] = (CONTROL,)
    remembers: ClassVar[bool] = True

    name: Literal["scaffold"] = "scaffold"
    server_learning_rate: ServerLearningRate = 1.0

    @property
    def state(self) -> Mapping[str, float]:
        return {CONTROL: 0.0}

    def training_fault(self, training: TrainingFacts) -> str | None:
        if training.momentum == 0:
            return None
        return (
            f"SCAFFOLD's clients train by plain SGD: momentum must be 0, not {training.momentum:g}"
        )

    def weight(self, update: UpdateFacts) -> float:
        return 1.0

    def step(
        self, base: np.ndarray, reduced: Mapping[str, np.ndarray], state: State, facts: RoundFacts
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        new = base + self.server_learning_rate * (reduced["weights"] - base)
        control = state[CONTROL] + facts.participation * reduced[CONTROL]
        return new, {CONTROL: control}

    def offset(self, own: np.ndarray, state: State) -> np.ndarray:
        offset: np.ndarray = state[CONTROL] - own
        return offset

    def remember(
        self,
        own: np.ndarray,
        state: State,
        change: np.ndarray,
        steps: float,
        learning_rate: float,
    ) -> np.ndarray:
        return own - state[CONTROL] - change / (steps * learning_rate)

    def carried(self, own: np.ndarray, fresh: np.ndarray) -> Mapping[str, np.ndarray]:
        return {CONTROL: fresh - own}
