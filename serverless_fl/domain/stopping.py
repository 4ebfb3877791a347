"""The rule that ends an experiment at its target (docs/decisions/0007)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from serverless_fl.domain.confidence import least_examples, lower_bound, risk_after_round
from serverless_fl.domain.draws import shard_bounds
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.goal import Goal
from serverless_fl.domain.records import Update
from serverless_fl.domain.round import Round


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

    The model is right on the share `rate` of `examples` examples of `clients` clients. `at_least`
    is a lower bound of the rate on all examples.
    """

    clients: int
    examples: int
    rate: float
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
    goal, target = config.goal, config.target
    value = agreed_rate(goal, updates) if goal.pooled else mean(goal, updates)
    if target is None or value is None or not goal.meets(value, target):
        return Verdict(0)
    if streak + 1 < config.patience:
        return Verdict(streak + 1)
    if not goal.pooled:
        return Verdict(streak + 1, _mean_reason(config, round_, value))
    pooled = [updates, *islice(earlier, config.patience - 1)]
    found = evidence(config, round_.number, pooled)
    if found.at_least < target:
        return Verdict(streak + 1)
    return Verdict(streak + 1, _rate_reason(config, round_, value, found, len(pooled)))


def _rate_reason(config: Config, round_: Round, rate: float, found: Evidence, pooled: int) -> str:
    rounds = f"{pooled} rounds" if pooled > 1 else "one round"
    right = "were right" if config.target_metric is None else f"is their {config.target_metric}"
    return (
        f"The {target_text(config)} was reached: {rate:.2%} with model {round_.base_version}, by "
        f"the clients with more than half of the examples. {found.rate:.2%} of {found.examples} "
        f"held-out examples of {found.clients} clients in {rounds} {right}, which shows at least "
        f"{found.at_least:.2%}."
    )


def _mean_reason(config: Config, round_: Round, value: float) -> str:
    last = f" of the last {config.patience} rounds" if config.patience > 1 else ""
    met = f", and each{last} met it" if last else ""
    return (
        f"The {target_text(config)} was reached: the mean over the examples of round "
        f"{round_.number} is {value:.6g}{met}."
    )


def target_text(config: Config) -> str:
    """The target in words: "target accuracy of 97.00%", "target of at most 0.1 for loss"."""
    if config.target_metric is None or config.target is None:
        return f"target accuracy of {config.target_accuracy or 0:.2%}"
    if config.goal.pooled:
        return f"target of {config.target:.2%} for {config.target_metric}"
    bound = "least" if config.goal.higher else "most"
    return f"target of at {bound} {config.target:.6g} for {config.target_metric}"


def evidence(config: Config, number: int, pooled: Iterable[Sequence[Update]]) -> Evidence:
    """Pool the measurements in the updates of some rounds, the newest round first.

    Each client counts once, with its newest measurement, because it measures on the same examples
    in every round. With three clients or more, the lowest rate counts as the second lowest and
    the highest as the second highest, so a single client that lies cannot decide alone. `number`
    is the newest round; the lower bound takes its risk.
    """
    latest: dict[int, tuple[float, int]] = {}
    for updates in pooled:
        for update in updates:
            if (rate := config.goal.in_update(update.metrics)) is not None:
                latest.setdefault(update.slot, (rate, held_out(config, update)))
    found = sorted(latest.values())
    if len(found) >= 3:
        found[0] = (found[1][0], found[0][1])
        found[-1] = (found[-2][0], found[-1][1])
    examples = sum(count for _, count in found)
    right = sum(rate * count for rate, count in found)
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
    target, number = config.target, max(config.patience, min(10, config.rounds))
    if target is None or not config.goal.pooled or config.dataset_size is None:
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
        f"The {target_text(config)} is not likely to end this run: after round {number} "
        f"{shown}, and the pooled rounds have {most}. Raise the patience to pool more examples, "
        "or lower the target to need fewer."
    )


def agreed_rate(goal: Goal, updates: Sequence[Update]) -> float | None:
    """Give the highest rate that clients with more than half of all examples reached.

    This is the lower weighted median: clients with at most half of the examples cannot move it
    beyond the values of the others. A client without a measurement counts as one that reached
    nothing; the result is None if such clients hold half of the examples or more. For rates of
    0.8, 0.9 and 1.0, with 10 examples each, it is 0.9; for 0.9 and 1.0 it is 0.9 as well.
    """
    total = sum(update.num_examples for update in updates)
    agreeing = 0
    for rate, examples in sorted(_measured(goal, updates), reverse=True):
        agreeing += examples
        if 2 * agreeing > total:
            return rate
    return None


def mean(goal: Goal, updates: Sequence[Update]) -> float | None:
    """Give the mean over the examples of the clients that measured the goal's metric.

    None if the other clients hold half of the examples or more.
    """
    total = sum(update.num_examples for update in updates)
    measured = _measured(goal, updates)
    examples = sum(count for _, count in measured)
    if 2 * examples <= total:
        return None
    return sum(value * count for value, count in measured) / examples


def _measured(goal: Goal, updates: Sequence[Update]) -> list[tuple[float, int]]:
    """The value and the number of examples of each update that has the metric."""
    found = ((goal.in_update(u.metrics), u.num_examples) for u in updates)
    return [(value, examples) for value, examples in found if value is not None]
