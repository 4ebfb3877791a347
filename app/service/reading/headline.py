"""The sentences that say what is going on in an experiment, and what it waits for."""

from __future__ import annotations

from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.round import RoundState
from serverless_fl.wire import views


def headline(
    experiment: Experiment, enrolled: int, current: views.RoundView | None, now: float
) -> str:
    """One sentence: what is going on, and what it waits for."""
    config = experiment.config
    if experiment.ended:
        return f"{experiment.state.capitalize()}: {experiment.reason}"
    if experiment.state is ExperimentState.PAUSED:
        return f"Paused after round {experiment.round} of {config.rounds}: {experiment.reason}"
    if experiment.state is ExperimentState.AWAITING_MODEL:
        return "Waiting for the initial weights."
    if current is None:
        return f"{enrolled} of {config.clients_to_start} clients enrolled."
    if current.state is not RoundState.COLLECTING:
        return f"Round {current.number} of {config.rounds} is being aggregated."
    text = (
        f"Round {current.number} of {config.rounds}: "
        f"{len(current.reported)} of {len(current.cohort)} updates"
    )
    if current.refused:
        text += f", {len(current.refused)} refused"
    if current.missing:
        names = ", ".join(current.missing[:10]) + (" and more" if current.missing[10:] else "")
        text += f"; waiting for {names}, {max(0.0, current.deadline.timestamp() - now):.0f} s left"
    return text + (". It pauses after this round." if experiment.pausing else ".")


def refused_for_ever(refused: list[views.RefusalView]) -> str:
    """Another sentence, where clients train in vain."""
    if not refused:
        return ""
    names = ", ".join(refusal.client for refusal in refused[:5])
    names += f" and {len(refused) - 5} more" if refused[5:] else ""
    were = "was" if len(refused) == 1 else "were"
    return f" {names} {were} refused in every round: {refused[0].reason}"
