"""When an experiment has reached its target accuracy (docs/decisions/0007)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.experiment import Config
from app.domain.records import Update
from app.domain.round import Round

METRIC = "accuracy_before"  # the round's base model on a client's held-out examples


@dataclass(frozen=True)
class Verdict:
    """`streak`: the rounds in a row that met the target. `reason`: why it is over, if it is."""

    streak: int
    reason: str | None = None


def decide(config: Config, streak: int, round_: Round, updates: Sequence[Update]) -> Verdict:
    """Whether the experiment is to end after this round, whose accepted updates these are.

    `streak` is what it was before the round.
    """
    accuracy, target = agreed_accuracy(updates), config.target_accuracy
    if target is None or accuracy is None or accuracy < target:
        return Verdict(0)
    if streak + 1 < config.patience:
        return Verdict(streak + 1)
    return Verdict(
        streak + 1,
        f"The target accuracy of {target:.2%} was reached: {accuracy:.2%} with model "
        f"{round_.base_version}, by the clients with more than half of the examples.",
    )


def agreed_accuracy(updates: Sequence[Update]) -> float | None:
    """The highest accuracy that clients with more than half of all examples measured, or exceeded.

    This is the lower weighted median, so clients with half of the examples or less can pull it
    neither up nor down beyond what others measured. A client that reports none counts as one that
    did not reach it. None where too many report none. With 10 examples each, of 0.9, 0.8 and 1.0 it
    is 0.9; of 0.9 and 1.0 as well.
    """
    total = sum(update.num_examples for update in updates)
    measured = [(u.metrics[METRIC], u.num_examples) for u in updates if METRIC in u.metrics]
    agreeing = 0
    for accuracy, examples in sorted(measured, reverse=True):
        agreeing += examples
        if 2 * agreeing > total:
            return accuracy
    return None
