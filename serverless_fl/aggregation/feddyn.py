"""FedDyn: each client's loss is corrected until the clients' optima agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, FiniteFloat

from serverless_fl.aggregation.strategy import RoundFacts, State, Strategy, UpdateFacts

if TYPE_CHECKING:
    import numpy as np

CORRECTION = "correction"  # the state; the paper's h


class FedDyn(Strategy):
    """Averages the clients' models, and moves on by the sum of all changes that it has seen.

    Acar et al., "Federated Learning Based on Dynamic Regularization", ICLR 2021, arXiv:2111.04263,
    algorithm 1: h <- h - (alpha / m) sum (y_k - x); x <- mean y_k - h / alpha. m is the number of
    all clients, not of the round's. Clients count alike, and train on a loss with the terms
    - g_k . y + alpha / 2 |y - x|^2, where g_k <- g_k - alpha (y_k - x).

    Choose it when the clients' data differ much, each takes part again and again, and you want to
    send no more bytes than FedAvg does. The schedule has to be synchronous. A client that loses its
    g_k begins again at 0, and the lost one's share stays in h. The server's correction moves all
    floating-point tensors: train networks without batch normalisation.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> strategy = FedDyn(feddyn_alpha=0.5)
    >>> aggregate(strategy, [0.0], [[1.0], [3.0]], clients=4)  # h = -0.5 / 4 * (1 + 3)
    (array([3.]), {'correction': array([-0.5])})
    """

    remembers: ClassVar[bool] = True

    name: Literal["feddyn"] = "feddyn"
    feddyn_alpha: Annotated[
        FiniteFloat,
        Field(gt=0, le=1000, description="How strongly clients are held near the global model"),
    ] = 0.01

    @property
    def state(self) -> Mapping[str, float]:
        return {CORRECTION: 0.0}

    def staleness_fault(self) -> str | None:
        return (
            "FedDyn's clients keep their whole changes, whose mean h has to be, and a buffered "
            "schedule counts a share of a change: choose the synchronous schedule, or SCAFFOLD"
        )

    def weight(self, update: UpdateFacts) -> float:
        return 1.0

    def step(
        self, base: np.ndarray, reduced: Mapping[str, np.ndarray], state: State, facts: RoundFacts
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        mean = reduced["weights"]
        h = state[CORRECTION] - self.feddyn_alpha * facts.participation * (mean - base)
        return mean - h / self.feddyn_alpha, {CORRECTION: h}

    @property
    def pull(self) -> float:
        return self.feddyn_alpha

    def offset(self, own: np.ndarray, state: State) -> np.ndarray:
        return -own

    def remember(
        self,
        own: np.ndarray,
        state: State,
        change: np.ndarray,
        steps: float,
        learning_rate: float,
    ) -> np.ndarray:
        return own - self.feddyn_alpha * change
