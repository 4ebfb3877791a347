"""Bodies about an experiment: its settings, its state, its clients, its audit log."""

from __future__ import annotations

from pydantic import ValidationError

from app.api.bodies.common import ids_of, optional_time_of, time_of
from app.api.bodies.rounds import refusal_body, round_body, summary_body
from app.service.coordinator import (
    Coordinator,
    Enrolled,
    EnrolmentKey,
    ExperimentDetails,
    ListedExperiment,
)
from serverless_fl.alternatives import first_fault
from serverless_fl.domain.audit import AuditEvent
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.domain.experiment import Config, Experiment
from serverless_fl.domain.goal import BEFORE
from serverless_fl.domain.ledger import NOTHING_SPENT
from serverless_fl.domain.lineage import Origin
from serverless_fl.domain.records import client_id
from serverless_fl.domain.task_name import TaskName
from serverless_fl.privacy import mechanism_of
from serverless_fl.wire import schema, views
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.text import clean


def settings_body(config: Config) -> ExperimentConfig:
    """The settings. Names lose control characters, which earlier versions have stored.

    Raises InvalidConfig if another release has stored a setting that this one does not know.
    """
    named = {"dataset": clean(config.dataset), "model": clean(config.model)}
    try:
        return ExperimentConfig(**config.flat() | named)
    except ValidationError as error:
        raise InvalidConfig(
            "Another release of the coordinator has stored settings that this one cannot read: "
            f"{first_fault(error)}."
        ) from error


def created_body(
    experiment: Experiment, key: str, service: Coordinator
) -> schema.CreatedExperiment:
    """A new experiment, with its enrolment key and the bounds of uploads."""
    return schema.CreatedExperiment(
        id=experiment.id,
        state=experiment.state,
        enrolment_key=key,
        part_bytes=service.limits.part_bytes,
        max_model_bytes=service.limits.max_model_bytes,
        direct=service.direct,
    )


def line_body(listed: ListedExperiment) -> views.ExperimentSummary:
    """A line of the list of experiments."""
    experiment = listed.experiment
    config, best = experiment.config, experiment.best_held_out
    cost: float | None = listed.cost_usd
    if config.secret_cohorts:  # both tell about who took part
        best = cost = None
    return views.ExperimentSummary(
        id=experiment.id,
        name=experiment.name,
        state=experiment.state,
        round=experiment.round,
        rounds=experiment.config.rounds,
        model_version=experiment.model_version,
        created_at=time_of(experiment.created_at),
        reason=experiment.reason,
        model=clean(config.model),
        dataset=clean(config.dataset),
        data="own" if config.own_data else "common",
        strategy=config.strategy.name,
        goal=_goal_body(config),
        best=views.BestView(version=best.version, value=best.value) if best else None,
        cost_usd=cost,
        expires_at=optional_time_of(experiment.expires_at),
        privacy=_privacy_body(experiment),
    )


def _privacy_body(experiment: Experiment) -> views.PrivacyView | None:
    """What the models have cost of privacy; None if the mechanism keeps no ledger."""
    config, entry = experiment.config, experiment.ledger
    mechanism = mechanism_of(config)
    if not mechanism.keeps_ledger:
        return None
    return views.PrivacyView(
        epsilon=entry.epsilon if entry else 0.0,
        delta=entry.delta if entry else 0.0,
        participations=entry.participations if entry else 0,
        budget_epsilon=config.budget_epsilon,
        next_epsilon=mechanism.coming(entry),
        meaning=entry.meaning if entry else NOTHING_SPENT,
    )


def _goal_body(config: Config) -> views.GoalView:
    goal = config.goal
    return views.GoalView(
        metric=goal.metric.removesuffix(BEFORE),
        better="higher" if goal.higher else "lower",
        target=config.target,
    )


def experiment_body(found: ExperimentDetails) -> views.ExperimentView:
    """All that anybody may read of an experiment."""
    experiment = found.experiment
    return views.ExperimentView(
        id=experiment.id,
        name=experiment.name,
        state=experiment.state,
        progress=found.progress,
        reason=experiment.reason,
        pausing=bool(experiment.pausing) and not experiment.ended,
        config=settings_body(experiment.config),
        enrolled=found.enrolled,
        round=experiment.round,
        model_version=experiment.model_version,
        created_at=time_of(experiment.created_at),
        ended_at=optional_time_of(experiment.ended_at),
        expires_at=optional_time_of(experiment.expires_at),
        part_bytes=found.part_bytes,
        direct=found.direct,
        current_round=round_body(found.current) if found.current else None,
        always_refused=[refusal_body(refusal) for refusal in found.always_refused],
        left_out=[
            views.LeftOutView(
                client=client_id(f.slot),
                rounds=f.rounds,
                asked=f.asked,
                late=f.late,
                reason=f.reason(experiment.config),
            )
            for f in found.left_out
        ],
        history=[summary_body(past) for past in found.history],
        evaluations=found.evaluations,
        goal=_goal_body(experiment.config),
        origin=_origin_body(experiment.origin),
        task=_task_body(experiment.task),
        extensions=[
            views.ExtensionView(
                before=e.before,
                rounds=e.rounds,
                after_round=e.after_round,
                extended_at=time_of(e.extended_at),
            )
            for e in experiment.extensions
        ],
        cost=_cost_body(found),
        privacy=_privacy_body(experiment),
        now=time_of(found.now),
        retry_after=found.retry_after,
    )


def origin_of(body: schema.ModelOrigin | None) -> Origin | None:
    """The origin in a request."""
    return None if body is None else Origin(**body.model_dump())


def _origin_body(origin: Origin | None) -> views.OriginView | None:
    if origin is None:
        return None
    return views.OriginView(
        experiment=origin.experiment, version=origin.version, sha256=origin.sha256
    )


def _task_body(task: TaskName | None) -> views.TaskView | None:
    return None if task is None else views.TaskView(name=task.name, fingerprint=task.fingerprint)


def _cost_body(found: ExperimentDetails) -> views.CostView | None:
    if found.estimate is None:
        return None
    usage, cost, prices = found.estimate.usage, found.estimate.cost, found.prices
    return views.CostView(
        usd=cost.usd,
        budget_usd=found.experiment.config.budget_usd,
        items=cost.items,
        requests=round(usage.requests + usage.ticks, 1),
        gb_seconds=cost.gb_seconds,
        bytes_up=round(usage.bytes_in),
        bytes_down=round(usage.bytes_out + usage.bytes_direct),
        region=prices.region,
        memory_mb=prices.memory_mb,
        request_ms=prices.request_ms,
        prices_as_of=prices.as_of,
    )


def enrolment_key_body(found: EnrolmentKey) -> schema.EnrolmentKey:
    """The key that enrols now."""
    return schema.EnrolmentKey(enrolment_key=found.key, generation=found.generation)


def audit_body(event: AuditEvent) -> views.AuditEvent:
    """An event of the audit log."""
    return views.AuditEvent(
        cursor=event.cursor,
        at=time_of(event.at),
        who=event.who,
        what=event.what,
        detail=event.detail,
        round=event.round,
        clients=ids_of(event.clients),
    )


def client_body(found: Enrolled) -> views.ClientView:
    """What anybody may read of a client."""
    client = found.client
    return views.ClientView(
        id=client.id,
        name=client.name,
        shard_size=found.examples,
        identity=client.identity,
        woken_by=found.woken_by,
        labels=dict(client.labels),
        enrolled_at=time_of(client.enrolled_at),
        revoked_at=optional_time_of(client.revoked_at),
    )
