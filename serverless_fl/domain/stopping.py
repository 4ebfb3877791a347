"""When an experiment has reached its target accuracy (docs/decisions/0007)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from serverless_fl.domain.confidence import least_examples, lower_bound, risk_of
from serverless_fl.domain.draws import shard_bounds
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.records import Update
from serverless_fl.domain.round import Round

METRIC = "accuracy_before"  # the round's base model on a client's held-out examples


@dataclass(frozen=True)
class Verdict:
    """`streak`: the rounds in a row that met the target. `reason`: why it is over, if it is."""

    streak: int
    reason: str | None = None


@dataclass(frozen=True)
class Evidence:
    """What the clients' held-out examples show: how many examples there are, of how many clients,
    the share that the model gets right, and a lower bound of that share over all examples.
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
    """Whether the experiment is to end after this round, whose accepted updates these are.

    `streak` is what it was before the round; `earlier` are the accepted updates of the rounds
    before it, the newest first, of which as many count as are pooled (`patience`, less this one).
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
    """What the updates of some rounds show after round `number`; the newest come first.

    Each client counts once, with what it measured last: its examples are the same every time. Of
    three clients or more, the worst counts as the second worst and the best as the second best, so
    that one that lies neither shows a target nor hides it.
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
    at_least = lower_bound(right, examples, risk_of(number))
    return Evidence(len(found), examples, right / max(examples, 1), at_least)


def held_out(config: Config, update: Update) -> int:
    """On how many examples a client measured: what it did not train on, at most a tenth.

    Nobody says how many they are, but the SDK holds out a tenth of a shard.
    """
    first, last = shard_bounds(config.dataset_size, config.clients, update.slot)
    tenth = max(1, round((last - first) / 10))
    left = last - first - update.num_examples
    return min(left, tenth) if left > 0 else tenth


def out_of_reach(config: Config) -> str:
    """A sentence where the pooled examples are too few to show the target after round 10 (or the
    last), were every answer right; else empty.
    """
    target, number = config.target_accuracy, max(config.patience, min(10, config.rounds))
    if target is None:
        return ""
    tenth = max(1, round(config.dataset_size / config.clients / 10))
    most = tenth * min(config.clients, config.clients_per_round * config.patience)
    needed = least_examples(target, number)
    if most >= needed:
        return ""
    how = f"at least {needed} held-out examples, all of them right" if target < 1 else "too many"
    return (
        f"The target accuracy of {target:.2%} is not likely to end this run: after round {number} "
        f"it takes {how}, to show it, and what is pooled has {most}. A higher patience pools more, "
        "a lower target takes fewer."
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
