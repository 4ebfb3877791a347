"""One round of a strategy on arrays in memory: what the coordinator computes span by span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from serverless_fl.aggregation.strategy import (
    Reduction,
    RoundFacts,
    State,
    Strategy,
    TrainingFacts,
    UpdateFacts,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

PLAIN_SGD = TrainingFacts(local_epochs=10, batch_size=1, learning_rate=0.1, momentum=0.0)


def aggregate(
    strategy: Strategy,
    base: ArrayLike,
    updates: ArrayLike,
    facts: Sequence[UpdateFacts] | None = None,
    *,
    companions: Mapping[str, ArrayLike] | None = None,
    state: State | None = None,
    clients: int | None = None,
    number: int = 1,
    training: TrainingFacts = PLAIN_SGD,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Give the new weights [elements] and the new state of one round.

    `base` [elements] and `updates` [updates, elements] are weights, and so is each of the
    `companions`. Without `facts` each update has one example; without `state` it is the first
    round; without `clients` all clients took part. Raises ValueError where the strategy finds a
    fault. See a strategy's own docstring for an example.
    """
    base = np.asarray(base, np.float64)
    arrays = {"weights": np.asarray(updates, np.float64)}
    arrays |= {
        name: np.asarray((companions or {})[name], np.float64) for name in strategy.companions
    }
    changes = arrays["weights"] - base
    facts = facts or [UpdateFacts(client=i, num_examples=1) for i in range(len(changes))]
    _check(strategy, facts, training)
    if strategy.needs_norm:
        norms = np.linalg.norm(changes, axis=1)
        facts = [replace(u, norm=float(norm)) for u, norm in zip(facts, norms, strict=True)]
    reduced = _reduce(strategy, arrays, changes, facts)
    begun = {name: np.full(base.shape, value) for name, value in strategy.state.items()}
    known = RoundFacts(
        number=number, updates=facts, clients=clients or len(facts), training=training
    )
    return strategy.step(base, reduced, {**begun, **(state or {})}, known)


def _check(strategy: Strategy, facts: Sequence[UpdateFacts], training: TrainingFacts) -> None:
    faults = [
        strategy.training_fault(training),
        strategy.fault(len(facts)),
        *(strategy.update_fault(update, training) for update in facts),
    ]
    for fault in faults:
        if fault:
            raise ValueError(fault)


def _reduce(
    strategy: Strategy,
    arrays: Mapping[str, np.ndarray],
    changes: np.ndarray,
    facts: Sequence[UpdateFacts],
) -> dict[str, np.ndarray]:
    if strategy.reduction is Reduction.MEAN:
        weights = np.array([strategy.weight(update) for update in facts])
        return {name: weights @ values / weights.sum() for name, values in arrays.items()}
    if strategy.reduction is Reduction.COLUMNS:
        return {name: strategy.reduce(values, facts) for name, values in arrays.items()}
    weights = strategy.weights(changes @ changes.T, facts)
    if strategy.reduction is Reduction.GEOMETRY:
        return {name: weights @ values / weights.sum() for name, values in arrays.items()}
    chosen = np.flatnonzero(weights).tolist()
    kept = [facts[i] for i in chosen]
    return {name: strategy.reduce(values[chosen], kept) for name, values in arrays.items()}
