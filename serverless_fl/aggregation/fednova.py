"""FedNova: clients that take different numbers of steps count alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from serverless_fl.aggregation.strategy import (
    RoundFacts,
    State,
    Strategy,
    TrainingFacts,
    UpdateFacts,
)

if TYPE_CHECKING:
    import numpy as np

STEPS = "effective_steps"  # the metric that an update carries
_ROUNDING = 1e-6  # a share of the number of effective steps


def effective_steps(steps: int, momentum: float) -> float:
    """How many steps of plain SGD reach as far as `steps` steps with momentum; the paper's a_i.

    Plain SGD applies each gradient once: `steps`. With a momentum of rho, in [0, 1), the gradients
    of tau steps enter the result (tau - rho (1 - rho^tau) / (1 - rho)) / (1 - rho) times.

    >>> effective_steps(3, 0.5)  # the first gradient 1.75 times, the second 1.5, the third 1
    4.25
    """
    if momentum == 0:
        return float(steps)
    rest = 1 - momentum
    decayed = -math.expm1(steps * math.log(momentum))  # 1 - rho^tau
    return max(1.0, (steps - momentum * decayed / rest) / rest)


class FedNova(Strategy):
    """Averages the clients' changes per step, and takes as many steps as they took on average.

    Wang et al., "Tackling the Objective Inconsistency Problem in Heterogeneous Federated
    Optimization", NeurIPS 2020, arXiv:2007.07481: x <- x - (sum p_i a_i) sum p_i (x - y_i) / a_i.
    p_i is the client's share of the examples and a_i its number of effective steps.

    Choose it when clients take different numbers of steps, because their shards or their speeds
    differ. FedAvg then favours the clients that take the most.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> facts = [
    ...     UpdateFacts(client=i, num_examples=10, metrics={"effective_steps": steps})
    ...     for i, steps in enumerate([1, 4])
    ... ]
    >>> aggregate(FedNova(), [0.0], [[1.0], [-4.0]], facts)[0]  # one step each way; FedAvg: -1.5
    array([0.])
    """

    needs: ClassVar[tuple[str, ...]] = (STEPS,)

    name: Literal["fednova"] = "fednova"

    def update_fault(self, update: UpdateFacts, training: TrainingFacts) -> str | None:
        """Refuse steps that this client cannot take: the sum of all would throw the model away."""
        if fault := super().update_fault(update, training):
            return fault
        batches = -(-update.num_examples // training.batch_size)
        most = effective_steps(training.local_epochs * batches, training.momentum)
        claimed = update.metrics[STEPS]
        if not 1 - _ROUNDING <= claimed <= most * (1 + _ROUNDING):
            return (
                f"{STEPS} is {claimed:g}: it must be from 1 to {most:g}, the most that "
                f"{update.num_examples} examples allow"
            )
        return None

    def weight(self, update: UpdateFacts) -> float:
        return update.num_examples / update.metrics[STEPS]

    def step(
        self, base: np.ndarray, reduced: Mapping[str, np.ndarray], state: State, facts: RoundFacts
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Scale the mean change, whose weights are p_i / a_i, back from their sum to 1."""
        examples = math.fsum(update.num_examples for update in facts.updates)
        steps = math.fsum(u.num_examples * u.metrics[STEPS] for u in facts.updates) / examples
        weights = math.fsum(self.weight(update) for update in facts.updates) / examples
        return base + steps * weights * (reduced["weights"] - base), {}
