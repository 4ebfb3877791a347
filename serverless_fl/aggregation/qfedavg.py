"""q-FedAvg: clients whose loss is high count more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, FiniteFloat

from serverless_fl.aggregation.strategy import RoundFacts, State, Strategy, UpdateFacts

if TYPE_CHECKING:
    import numpy as np

LOSS = "loss_before"  # the metric: the global model's loss on the client's held-out examples
_LEAST, _MOST = 1e-10, 1e6  # of a loss; what lies beyond counts as that


class QFedAvg(Strategy):
    """Weighs each change by the q-th power of the global model's loss at the client.

    Li et al., "Fair Resource Allocation in Federated Learning", ICLR 2020, arXiv:1905.10497,
    algorithm 2. L is 1 / the clients' learning rate, F_k the loss of the *global* model at client
    k and y_k its result: Delta_k = F_k^q L (x - y_k);
    h_k = q F_k^(q-1) |L (x - y_k)|^2 + L F_k^q; x <- x - sum Delta_k / sum h_k.

    Choose it when the worst-served clients matter as much as the mean, and you trust all of them:
    a client gains weight by overstating its loss. With q = 0 it is FedAvg without weights; try
    0.1 to 5.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> facts = [
    ...     UpdateFacts(client=i, num_examples=1, metrics={"loss_before": loss})
    ...     for i, loss in enumerate([1.0, 3.0])
    ... ]
    >>> from serverless_fl.aggregation.strategy import TrainingFacts
    >>> plain = TrainingFacts(local_epochs=1, batch_size=1, learning_rate=1.0, momentum=0.0)
    >>> aggregate(QFedAvg(q=1.0), [0.0], [[1.0], [2.0]], facts, training=plain)[0]
    array([0.77777778])

    With L = 1 that is (1 * 1 + 3 * 2) / ((1 + 1) + (4 + 3)): large changes make it careful.
    """

    needs: ClassVar[tuple[str, ...]] = (LOSS,)
    needs_norm: ClassVar[bool] = True

    name: Literal["qfedavg"] = "qfedavg"
    q: Annotated[
        FiniteFloat, Field(ge=0, le=15, description="How much a client's loss adds to its weight")
    ] = 0.2

    def weight(self, update: UpdateFacts) -> float:
        """Give the loss's power of q as a share of the largest loss's: above 0 and at most 1.

        The step has the weights above and below the line, so their scale does not matter. C's `pow`
        has other last bits on other machines; the decimal module's has not.
        """
        return float((Decimal(_loss(update)) / Decimal(_MOST)) ** Decimal(self.q))

    def step(
        self, base: np.ndarray, reduced: Mapping[str, np.ndarray], state: State, facts: RoundFacts
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        lipschitz = 1 / facts.training.learning_rate
        weights = [self.weight(update) for update in facts.updates]
        curvatures = []
        for weight, update in zip(weights, facts.updates, strict=True):
            gradient = lipschitz * _norm(update)
            slope = self.q * weight / _loss(update)
            curvatures.append(slope * gradient * gradient + lipschitz * weight)
        scale = lipschitz * math.fsum(weights) / math.fsum(curvatures)
        return base + scale * (reduced["weights"] - base), {}


def _loss(update: UpdateFacts) -> float:
    return min(max(update.metrics[LOSS], _LEAST), _MOST)


def _norm(update: UpdateFacts) -> float:
    assert update.norm is not None  # noqa: S101  the caller fills it in, as `needs_norm` says
    return update.norm
