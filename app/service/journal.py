"""Log lines and counters for operators: what happens to rounds, updates and experiments.

The process that writes a change to the store logs it, after the write.
"""

from __future__ import annotations

from typing import Any

from app.telemetry import metrics
from app.telemetry.logs import ERROR, INFO, WARNING, log_event
from serverless_fl import tracing
from serverless_fl.domain.errors import CoordinatorError
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.records import Client, Update
from serverless_fl.domain.round import Lease, Round

COORDINATOR = "coordinator"  # the actor of what the coordinator does unasked


def log_round(round_: Round, event: str, level: int = INFO, /, **fields: Any) -> None:
    log_event(event, level, experiment=round_.experiment_id, round=round_.number, **fields)


def log_opening(round_: Round) -> None:
    log_round(round_, "round opened", cohort=len(round_.cohort))


def log_seal(round_: Round, updates: int) -> None:
    log_round(round_, "round sealed", attempt=round_.attempt, updates=updates)


def log_new_attempt(round_: Round, reported: int, needed: int) -> None:
    log_round(
        round_,
        "round tried again",
        WARNING,
        attempt=round_.attempt,
        reported=reported,
        needed=needed,
    )


def log_takeover(round_: Round, before: Lease) -> None:
    """Log a lease whose owner fell silent. An owner that releases its lease is no event: calls take
    turns at a long round in that way.
    """
    lease = round_.lease
    if lease is not None and not before.released:
        facts = {"owner": before.owner, "fence": lease.fence, "deaths": lease.deaths}
        log_round(round_, "lease taken over", WARNING, **facts)


def log_waiting(round_: Round, error: CoordinatorError) -> None:
    log_round(round_, "aggregation waits for the store", WARNING, cause=error.message)


def log_close(round_: Round) -> None:
    metrics.ROUNDS_CLOSED.add()
    assert round_.closed_at is not None  # noqa: S101  (it was closed)
    tracing.record_round(
        *(round_.experiment_id, round_.number, round_.opened_at, round_.closed_at),
        cohort=len(round_.cohort),
        updates=len(round_.accepted),
    )
    log_round(
        round_,
        "round closed",
        updates=len(round_.accepted),
        examples=round_.num_examples,
        bytes=round_.update_bytes,
    )


def log_failed_aggregation(round_: Round, error: Exception) -> None:
    log_round(round_, "aggregation failed", ERROR, error=error)


def log_end(experiment: Experiment) -> None:
    """The log leaves an admin's reason out: it is a caller's text."""
    failed = experiment.state is ExperimentState.FAILED
    log_event(
        "experiment ended",
        WARNING if failed else INFO,
        experiment=experiment.id,
        state=str(experiment.state),
        model_version=experiment.model_version,
        reason=experiment.reason if experiment.ended_by == COORDINATOR else None,
        by=experiment.ended_by,
    )


def log_conclusion(experiment: Experiment) -> None:
    """Log what follows a closed round, if that is the end of the experiment or a pause."""
    if experiment.ended:
        log_end(experiment)
    elif experiment.state is ExperimentState.PAUSED:
        log_pause(experiment)


def log_pause(experiment: Experiment) -> None:
    by_itself = experiment.pauses[-1].paused_by == COORDINATOR
    log_event(
        "experiment paused",
        WARNING if by_itself else INFO,
        experiment=experiment.id,
        round=experiment.round,
        reason=experiment.reason if by_itself else None,
        by=experiment.pauses[-1].paused_by,
    )


def log_update(client: Client, update: Update) -> None:
    metrics.UPDATES_ACCEPTED.add()
    log_event(
        "update accepted",
        experiment=client.experiment_id,
        client=client.id,
        round=update.round,
        bytes=update.blob.size,
        examples=update.num_examples,
    )


def log_refused_update(client: Client, number: int, error: CoordinatorError) -> None:
    metrics.UPDATES_REFUSED.add(1, error.code)
    log_event(
        "update refused",
        WARNING,
        experiment=client.experiment_id,
        client=client.id,
        round=number,
        code=error.code,
    )
