"""What an operator is told of rounds, updates and ends: a log line each, and a count of some.

Each is told by the process whose write it was, once that is stored.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from app.telemetry import metrics
from app.telemetry.logs import ERROR, INFO, WARNING, tell
from serverless_fl.domain.errors import CoordinatorError
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.records import Client, Update, client_id
from serverless_fl.domain.round import Lease, Round

COORDINATOR = "coordinator"  # who did it, where nobody asked for it


def of_round(round_: Round, event: str, level: int = INFO, /, **fields: Any) -> None:
    tell(event, level, experiment=round_.experiment_id, round=round_.number, **fields)


def of_opening(round_: Round) -> None:
    of_round(round_, "round opened", cohort=len(round_.cohort))


def of_seal(round_: Round, updates: int) -> None:
    of_round(round_, "round sealed", attempt=round_.attempt, updates=updates)


def of_new_attempt(round_: Round, reported: int, needed: int) -> None:
    of_round(
        round_,
        "round tried again",
        WARNING,
        attempt=round_.attempt,
        reported=reported,
        needed=needed,
    )


def of_takeover(round_: Round, before: Lease) -> None:
    """Nothing is told of a lease that its owner let go of: that is how long rounds go on."""
    lease = round_.lease
    if lease is not None and not before.released:
        facts = {"owner": before.owner, "fence": lease.fence, "deaths": lease.deaths}
        of_round(round_, "lease taken over", WARNING, **facts)


def of_waiting(round_: Round, error: CoordinatorError) -> None:
    of_round(round_, "aggregation waits for the store", WARNING, cause=error.message)


def of_close(round_: Round) -> None:
    metrics.ROUNDS_CLOSED.add()
    of_round(
        round_,
        "round closed",
        updates=len(round_.accepted),
        examples=round_.num_examples,
        bytes=round_.update_bytes,
    )


def of_failed_aggregation(round_: Round, error: Exception) -> None:
    tell(
        "aggregation failed",
        ERROR,
        error=error,
        experiment=round_.experiment_id,
        round=round_.number,
    )


def of_end(experiment: Experiment) -> None:
    """An admin's reason is a text of theirs: it stays in the store."""
    failed = experiment.state is ExperimentState.FAILED
    tell(
        "experiment ended",
        WARNING if failed else INFO,
        experiment=experiment.id,
        state=str(experiment.state),
        model_version=experiment.model_version,
        reason=experiment.reason if experiment.ended_by == COORDINATOR else None,
        by=experiment.ended_by,
    )


def of_conclusion(experiment: Experiment) -> None:
    """A round is behind it; nothing is told where the next one simply opens."""
    if experiment.ended:
        of_end(experiment)
    elif experiment.state is ExperimentState.PAUSED:
        of_pause(experiment)


def of_pause(experiment: Experiment) -> None:
    by_itself = experiment.pauses[-1].paused_by == COORDINATOR
    tell(
        "experiment paused",
        WARNING if by_itself else INFO,
        experiment=experiment.id,
        round=experiment.round,
        reason=experiment.reason if by_itself else None,
        by=experiment.pauses[-1].paused_by,
    )


def of_update(client: Client, update: Update) -> None:
    metrics.UPDATES_ACCEPTED.add()
    tell(
        "update accepted",
        experiment=client.experiment_id,
        client=client.id,
        round=update.round,
        bytes=update.blob.size,
        examples=update.num_examples,
    )


def of_refused_update(client: Client, number: int, error: CoordinatorError) -> None:
    metrics.UPDATES_REFUSED.add(1, error.code)
    tell(
        "update refused",
        WARNING,
        experiment=client.experiment_id,
        client=client.id,
        round=number,
        code=error.code,
    )


def missing(
    round_: Round, reported: list[int], refused: list[int], revoked: Collection[int]
) -> str:
    """Why a round found no quorum: who was not heard of, and who was turned away."""
    unheard = round_.silent(round_.cohort, {*reported, *refused, *revoked})
    return " ".join(
        f"{what}: {', '.join(map(client_id, who[:20]))}{' and more' if len(who) > 20 else ''}."
        for what, who in (("Missing", unheard), ("Refused", refused), ("Revoked", [*revoked]))
        if who
    )
