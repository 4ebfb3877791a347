"""The sentences that say what is going on in an experiment, and what it waits for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from app.service.reading.details import RoundDetails
from app.service.records.repository import Repository
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.records import Refusal, client_id
from serverless_fl.domain.round import PHASES, Round, RoundState

_OPEN = PHASES | {RoundState.COLLECTING, RoundState.SEALED, RoundState.AGGREGATING}


def end_of(experiment: Experiment) -> str:
    """One sentence: how an experiment has ended, and why."""
    return f"{experiment.state.capitalize()}: {experiment.reason}"


def headline(
    experiment: Experiment, enrolled: int, current: RoundDetails | None, now: float
) -> str:
    """One sentence: what is going on, and what the experiment waits for."""
    config = experiment.config
    if experiment.ended:
        return end_of(experiment)
    if experiment.state is ExperimentState.PAUSED:
        return f"Paused after round {experiment.round} of {config.rounds}: {experiment.reason}"
    if experiment.state is ExperimentState.AWAITING_MODEL:
        return "Waiting for the initial weights."
    if current is None:
        return f"{enrolled} of {config.clients_to_start} clients enrolled."
    round_ = current.round
    if round_.state in PHASES:
        return _phase(round_, config.rounds, current, now)
    if round_.state is not RoundState.COLLECTING:
        return f"Round {round_.number} of {config.rounds} is being aggregated."
    text = (
        f"Round {round_.number} of {config.rounds}: "
        f"{len(current.updates)} of {len(round_.cohort)} updates"
    )
    if current.refusals:
        text += f", {len(current.refusals)} refused"
    if missing := current.missing:
        names = ", ".join(map(client_id, missing[:10])) + (" and more" if missing[10:] else "")
        text += f"; waiting for {names}, {max(0.0, round_.deadline - now):.0f} s left"
    return text + (". It pauses after this round." if experiment.pausing else ".")


_IN_A_PHASE = {
    RoundState.ADVERTISING: "have made keys for it",
    RoundState.SHARING: "have shared their secrets",
    RoundState.CONFIRMING: "have signed who is in the sum",
    RoundState.UNMASKING: "have handed in shares that open the sum",
}


def _phase(round_: Round, rounds: int, current: RoundDetails, now: float) -> str:
    """A phase of secure aggregation: who has done its part, and who is awaited."""
    if round_.helped:
        return (
            f"Round {round_.number} of {rounds}: {len(round_.accepted)} masked updates are in, and "
            "the helper is asked for the sum of their masks. The coordinator sees masked updates, "
            "and will see their sum."
        )
    done = [slot for slot in round_.awaited if slot not in current.missing]
    names = ", ".join(map(client_id, current.missing[:10]))
    names += " and more" if current.missing[10:] else ""
    waiting = f"; waiting for {names}, {max(0.0, round_.deadline - now):.0f} s left"
    return (
        f"Round {round_.number} of {rounds}: {len(done)} of {len(round_.awaited)} clients "
        f"{_IN_A_PHASE[round_.state]}{waiting if names else ''}. The coordinator sees masked "
        "updates, and will see their sum."
    )


def describe_always_refused(refused: Sequence[Refusal]) -> str:
    """A further sentence about the clients that train in vain; empty if there are none."""
    if not refused:
        return ""
    names = ", ".join(client_id(refusal.slot) for refusal in refused[:5])
    names += f" and {len(refused) - 5} more" if refused[5:] else ""
    were = "was" if len(refused) == 1 else "were"
    return f" {names} {were} refused in every round: {refused[0].reason}"


async def always_refused(
    repo: Repository, experiment_id: str, *, ended: bool, reported: Collection[int]
) -> list[Refusal]:
    """The last refusal of each client that was refused in every round it was drawn for, by slot.

    The open round does not count, because its clients may still send better updates. `reported` are
    the slots whose update was accepted in it. If nobody was refused, which is nearly always so,
    this reads the store once.
    """
    refusals = await repo.refusals(experiment_id)
    if not refusals:
        return []
    refused = {(refusal.round, refusal.slot) for refusal in refusals}
    found: dict[int, Refusal] = {}
    rounds = [r for r in await repo.rounds(experiment_id) if ended or r.state not in _OPEN]
    over = {round_.number for round_ in rounds}
    for refusal in refusals:  # ascending by round
        if refusal.round in over:
            found[refusal.slot] = refusal
    for round_ in rounds:
        for slot in _drawn(round_):
            if slot in round_.accepted or (round_.number, slot) not in refused:
                found.pop(slot, None)
    return [found[slot] for slot in sorted(found) if slot not in reported]


def _drawn(round_: Round) -> Iterator[int]:
    for attempt in round_.earlier:
        yield from attempt.cohort
    yield from round_.cohort
    yield from round_.accepted
