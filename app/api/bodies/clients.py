"""Bodies that a client sends and gets: its subscription, its turn, its updates."""

from __future__ import annotations

from app.api.bodies.common import time_of
from app.service.coordinator import (
    Declaration,
    Done,
    Phase,
    Shard,
    ShardRule,
    Subscriber,
    Subscription,
    Terms,
    Train,
    Turn,
    Wait,
)
from serverless_fl.domain.agreement import ColumnSums, Scale
from serverless_fl.domain.experiment import Config
from serverless_fl.domain.records import ClientCertificate, Update, UpdateCommit, client_id
from serverless_fl.learning_rate import learning_rate_in
from serverless_fl.wire import agreement, schema, turns
from serverless_fl.wire.identity import proof_of

_TOLD = tuple(turns.Training.model_fields)
_TOLD_OF_PRIVACY = tuple(turns.Privacy.model_fields)


def turn_body(turn: Turn) -> turns.Train | turns.Wait | turns.Phase | turns.Done:
    """What the client has to do now."""
    match turn:
        case Train():
            return _train_body(turn)
        case Wait():
            return turns.Wait(
                round=turn.number,
                retry_after=turn.retry_after,
                message=turn.message,
                hold=turn.long_poll_seconds,
            )
        case Phase():
            return turns.Phase(
                round=turn.round.number,
                attempt=turn.round.attempt,
                state=turn.round.state,
                seconds_left=turn.seconds_left,
            )
        case Done():
            ended = turn.experiment
            return turns.Done(
                state=ended.state, reason=ended.reason, model_version=ended.model_version
            )


def _train_body(turn: Train) -> turns.Train:
    config, round_ = turn.experiment.config, turn.round
    return turns.Train(
        round=round_.number,
        attempt=round_.attempt,
        base_version=round_.base_version,
        model=schema.BlobInfo(sha256=turn.model.sha256, size=turn.model.size),
        strategy=turn.strategy if turn.strategy.has_client_half else None,
        state={
            name: schema.BlobInfo(sha256=blob.sha256, size=blob.size)
            for name, blob in turn.state.items()
        },
        deadline=time_of(round_.deadline),
        seconds_left=turn.seconds_left,
        training=turns.Training(
            **config.some(_TOLD) | {"learning_rate": learning_rate_in(config, round_.number)}
        ),
        part_bytes=turn.part_bytes,
        direct=turn.direct,
        at_once=not turn.direct,
        max_update_bytes=turn.max_update_bytes,
        content_codings=[] if turn.direct else ["gzip"],
        privacy=_privacy_body(config) if turn.mechanism.has_client_half(config) else None,
        clip_norm=config.max_update_norm if config.norm_action == "reject" else None,
        update_encoding=config.sent_encoding,
        download_encoding=config.download_encoding,
    )


def _privacy_body(config: Config) -> turns.Privacy:
    return turns.Privacy(**config.some(_TOLD_OF_PRIVACY))


def commit_of(body: schema.UpdateCommit) -> UpdateCommit:
    """What a client says of an update whose parts it has uploaded."""
    return UpdateCommit(
        sha256=body.sha256,
        parts=body.parts,
        num_examples=body.num_examples,
        metrics=body.metrics,
        attempt=body.attempt,
        counts=body.counts,
        seal=body.seal,
    )


def commit_of_facts(facts: schema.UpdateFacts) -> UpdateCommit:
    """What a client says of an update whose only part is the request's own body."""
    return UpdateCommit(
        sha256=facts.sha256,
        parts=[facts.sha256],
        num_examples=facts.num_examples,
        metrics=facts.metrics,
        attempt=facts.attempt,
        counts=facts.counts,
        seal=facts.seal,
    )


def receipt_body(update: Update) -> schema.UpdateReceipt:
    """An update that stands."""
    return schema.UpdateReceipt(
        round=update.round,
        client_id=client_id(update.slot),
        sha256=update.blob.sha256,
        size=update.blob.size,
        num_examples=update.num_examples,
    )


def subscriber_of(body: schema.Subscribe, certificate: ClientCertificate | None) -> Subscriber:
    """A party that wants to become a client."""
    declared = Declaration(
        examples=body.examples,
        facts=body.facts,
        sums=tuple(ColumnSums(**found.model_dump()) for found in body.sums),
    )
    return Subscriber(
        client_key=body.client_key,
        name=body.name,
        told=body.told,
        shard=body.shard,
        certificate=certificate,
        declared=declared,
        proof=None if body.proof is None else proof_of(body.proof),
        wake_address=body.wake_address,
        wake_key=body.wake_key,
    )


def subscription_body(found: Subscription) -> schema.Subscription:
    """What a client gets when it enrols."""
    return schema.Subscription(
        client_id=found.client_id,
        token=found.token,
        shard_size=found.examples,
        shard=shard_body(found.shard) if found.shard else None,
        rule=_rule_body(found.rule) if found.rule else None,
    )


def _rule_body(rule: ShardRule) -> schema.ShardRule:
    return schema.ShardRule(
        version=rule.version,
        seed=rule.seed,
        dataset_size=rule.dataset_size,
        clients=rule.clients,
        slot=rule.slot,
    )


def agreement_body(found: Terms) -> agreement.AgreementView:
    """The terms for parties with data of their own."""
    fixed = found.normalisation
    return agreement.AgreementView(
        max_examples=found.max_examples,
        facts=dict(found.agreement.facts),
        normalise=list(found.agreement.normalise),
        sums_due=found.sums_due,
        scales=[_scale_body(scale) for scale in fixed.scales] if fixed else [],
    )


def _scale_body(scale: Scale) -> agreement.ScaleView:
    return agreement.ScaleView(
        column=scale.column, mean=scale.mean, deviation=scale.deviation, count=scale.count
    )


def shard_body(shard: Shard) -> schema.Shard:
    """A client's part of the data set."""
    return schema.Shard(
        client_id=shard.client_id,
        dataset=shard.dataset,
        dataset_size=shard.dataset_size,
        indices=shard.indices,
    )
