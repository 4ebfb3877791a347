"""Bodies about rounds, and about the updates and refusals of a round."""

from __future__ import annotations

from app.api.bodies.common import ids_of, optional_time_of, time_of
from app.service.coordinator import PastRound, RoundDetails
from serverless_fl.domain.records import Refusal, Update, client_id
from serverless_fl.domain.round import Attempt
from serverless_fl.wire import views


def round_body(found: RoundDetails) -> views.RoundView:
    """A round's record, with each client of its cohort."""
    round_ = found.round
    weights = dict(zip(round_.accepted, round_.weights, strict=False))
    return views.RoundView(
        number=round_.number,
        attempt=round_.attempt,
        state=round_.state,
        base_version=round_.base_version,
        cohort=ids_of(round_.cohort),
        reported=ids_of(update.slot for update in found.updates),
        missing=ids_of(found.missing),
        refused=[refusal_body(refusal) for refusal in found.refusals],
        revoked=ids_of(found.revoked),
        updates=[_update_body(update, weights.get(update.slot)) for update in found.updates],
        earlier_attempts=[_attempt_body(attempt) for attempt in round_.earlier],
        masked=round_.masked,
        invited=ids_of(round_.invited),
        awaited=ids_of(round_.awaited if round_.masked else ()),
        helped=round_.helped,
        wrong_shares=ids_of(round_.wrong_shares),
        group_size=round_.cut.group_size if round_.cut else None,
        opened_at=time_of(round_.opened_at),
        deadline=time_of(round_.deadline),
        closed_at=optional_time_of(round_.closed_at),
        clients=round_.clients,
        num_examples=round_.num_examples,
        update_bytes=round_.update_bytes,
        aggregation_seconds=round_.aggregation_seconds,
        metrics=round_.metrics,
    )


def summary_body(past: PastRound) -> views.RoundSummary:
    """A line of an experiment's history."""
    round_ = past.round
    return views.RoundSummary(
        number=round_.number,
        attempt=round_.attempt,
        state=round_.state,
        accepted=len(round_.accepted),
        contributors=ids_of(round_.accepted),
        opened_at=time_of(round_.opened_at),
        closed_at=optional_time_of(round_.closed_at),
        num_examples=round_.num_examples,
        update_bytes=round_.update_bytes,
        metrics=round_.metrics,
        cost_usd=past.cost_usd,
    )


def refusal_body(refusal: Refusal) -> views.RefusalView:
    """Whose update was refused, and why."""
    return views.RefusalView(
        client=client_id(refusal.slot), code=refusal.code, reason=refusal.reason
    )


def _update_body(update: Update, weight: float | None) -> views.UpdateView:
    return views.UpdateView(
        client=client_id(update.slot),
        num_examples=update.num_examples,
        sha256=update.blob.sha256,
        size=update.blob.size,
        metrics=update.metrics,
        received_at=time_of(update.received_at),
        norm=update.norm,
        scale=update.scale,
        weight=weight,
        base_version=update.base_version,
        counts=update.counts,
        seal=update.seal,
    )


def _attempt_body(attempt: Attempt) -> views.AttemptView:
    settled = attempt.settled
    return views.AttemptView(
        attempt=attempt.attempt,
        cohort=ids_of(attempt.cohort),
        reported=ids_of(attempt.reported),
        missing=ids_of(slot for slot in attempt.cohort if slot not in settled),
        revoked=ids_of(attempt.revoked),
        ended_at=time_of(attempt.ended_at),
    )
