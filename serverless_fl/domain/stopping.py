"""The rule that ends an experiment at its target accuracy (docs/decisions/0007)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from serverless_fl.domain.confidence import least_examples, lower_bound, risk_after_round
from serverless_fl.domain.draws import shard_bounds
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.records import Update
from serverless_fl.domain.round import Round

METRIC = "accuracy_before"  # the accuracy of the round's base model on held-out examples


@dataclass(frozen=True)
class Verdict:
    """The decision after a round. `reason` says why the experiment ends; None if it goes on.

    `streak` counts the last rounds in a row that met the target.
    """

    streak: int
    reason: str | None = None


@dataclass(frozen=True)
class Evidence:
    """The result on the clients' held-out examples.

    The model is right on the share `accuracy` of `examples` examples of `clients` clients.
    `at_least` is a lower bound of its accuracy on all examples.
    """

    clients: int
    examples: int
    accuracy: float
    at_least: float


def decide(
    config: Config,
    streak: int,
    round_: Round,
    updates: Sequence[Update],
    earlier: Iterable[Sequence[Update]] = (),
) -> Verdict:
    """Decide whether the experiment ends after a round with these accepted updates.

    `streak` is the streak before the round. `earlier` are the accepted updates of the rounds before
    it, the newest round first; the first `patience` - 1 of them count together with `updates`.
    """
    accuracy, target = agreed_accuracy(updates), config.target_accuracy
    if target is None or accuracy is None or accuracy < target:
        return Verdict(0)
    if streak + 1 < config.patience:
        return Verdict(streak + 1)
    pooled = [updates, *islice(earlier, config.patience - 1)]
    found = evidence(config, round_.number, pooled)
    if found.at_least < target:
        return Verdict(streak + 1)
    rounds = f"{len(pooled)} rounds" if len(pooled) > 1 else "one round"
    return Verdict(
        streak + 1,
        f"The target accuracy of {target:.2%} was reached: {accuracy:.2%} with model "
        f"{round_.base_version}, by the clients with more than half of the examples. "
        f"{found.accuracy:.2%} of {found.examples} held-out examples of {found.clients} clients "
        f"in {rounds} were right, which shows at least {found.at_least:.2%}.",
    )


def evidence(config: Config, number: int, pooled: Iterable[Sequence[Update]]) -> Evidence:
    """Pool the measurements in the updates of some rounds, the newest round first.

    Each client counts once, with its newest measurement, because it measures on the same examples
    in every round. With three clients or more, the lowest accuracy counts as the second lowest and
    the highest as the second highest, so a single client that lies cannot decide alone. `number`
    is the newest round; the lower bound takes its risk.
    """
    latest: dict[int, Update] = {}
    for updates in pooled:
        for update in updates:
            if METRIC in update.metrics:
                latest.setdefault(update.slot, update)
    found = sorted((u.metrics[METRIC], held_out(config, u)) for u in latest.values())
    if len(found) >= 3:
        found[0] = (found[1][0], found[0][1])
        found[-1] = (found[-2][0], found[-1][1])
    examples = sum(count for _, count in found)
    right = sum(accuracy * count for accuracy, count in found)
    at_least = lower_bound(right, examples, risk_after_round(number))
    return Evidence(len(found), examples, right / max(examples, 1), at_least)


def held_out(config: Config, update: Update) -> int:
    """Give the number of examples that a client measured on.

    These are the examples of its shard, or those that it declared, without those that it trained
    on, but at most a tenth: an update does not carry the number, and the SDK holds out a tenth.
    """
    if update.declared is None:
        first, last = shard_bounds(config.shared_out, config.clients, update.slot)
        size = last - first
    else:
        size = update.declared
    tenth = max(1, round(size / 10))
    left = size - update.num_examples
    return min(left, tenth) if left > 0 else tenth


def out_of_reach(config: Config) -> str:
    """Write a warning if the pooled examples are too few to show the target; else an empty text.

    Nobody knows the number before the parties with data of their own enrol. The examples are too
    few if they do not show the target after round 10 (or the last round) even with
    every answer right.
    """
    target, number = config.target_accuracy, max(config.patience, min(10, config.rounds))
    if target is None or config.dataset_size is None:
        return ""
    tenth = max(1, round(config.dataset_size / config.clients / 10))
    most = tenth * min(config.clients, config.clients_per_round * config.patience)
    needed = least_examples(target, number)
    if most >= needed:
        return ""
    if target < 1:
        shown = f"only {needed} held-out examples or more, all of them right, show it"
    else:
        shown = "no number of held-out examples shows it"
    return (
        f"The target accuracy of {target:.2%} is not likely to end this run: after round {number} "
        f"{shown}, and the pooled rounds have {most}. Raise the patience to pool more examples, "
        "or lower the target to need fewer."
    )


def agreed_accuracy(updates: Sequence[Update]) -> float | None:
    """Give the highest accuracy that clients with more than half of all examples reached.

    This is the lower weighted median: clients with at most half of the examples cannot move it
    beyond the values of the others. A client without a measurement counts as one that reached
    nothing; the result is None if such clients hold half of the examples or more. For accuracies of
    0.8, 0.9 and 1.0, with 10 examples each, it is 0.9; for 0.9 and 1.0 it is 0.9 as well.
    """
    total = sum(update.num_examples for update in updates)
    measured = [(u.metrics[METRIC], u.num_examples) for u in updates if METRIC in u.metrics]
    agreeing = 0
    for accuracy, examples in sorted(measured, reverse=True):
        agreeing += examples
        if 2 * agreeing > total:
            return accuracy
    return None
