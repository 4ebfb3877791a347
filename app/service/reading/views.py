"""What people and pages read, put together from the store."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from app.service.clients.enrolment import shard_size
from app.service.context import Context
from app.service.cost.metering import Estimate
from app.service.reading.headline import headline, refused_for_ever
from app.service.reading.refused import always_refused
from app.service.records.keys import client_key
from app.service.rounds.machine import Rounds
from serverless_fl.domain.errors import NotFound
from serverless_fl.domain.experiment import Config, Experiment
from serverless_fl.domain.records import (
    Client,
    Evaluation,
    ModelVersion,
    Refusal,
    client_id,
    slot_named,
)
from serverless_fl.domain.round import Round, RoundState
from serverless_fl.wire import schema, views
from serverless_fl.wire.text import clean

_UNSEALED = frozenset({RoundState.COLLECTING, RoundState.ABANDONED})


class Views:
    """Read-only. None of it holds a key, a token or a hash of one."""

    def __init__(self, context: Context, rounds: Rounds) -> None:
        self.context = context
        self.repo = context.repo
        self.rounds = rounds

    async def experiments(self, after: str, limit: int) -> list[views.ExperimentSummary]:
        found = await self.repo.experiments(after, limit)
        return [
            views.ExperimentSummary(
                id=e.id,
                name=e.name,
                state=e.state,
                round=e.round,
                rounds=e.config.rounds,
                model_version=e.model_version,
                created_at=_time(e.created_at),
                reason=e.reason,
            )
            for e in found
        ]

    async def experiment(self, experiment_id: str, after_round: int = 0) -> views.ExperimentView:
        """With the history above `after_round`. Raises NotFound.

        Advances the experiment first, so that what is shown is not overdue.
        """
        experiment, round_ = await self.rounds.advance(experiment_id)
        return await self._experiment(experiment, round_, after_round)

    async def as_stored(self, experiment_id: str, after_round: int = 0) -> views.ExperimentView:
        """As `experiment`, for those who only look: it may be overdue. Raises NotFound."""
        experiment = await self.repo.experiment(experiment_id)
        number = experiment.round
        round_ = await self.repo.round(experiment_id, number) if number else None
        return await self._experiment(experiment, round_, after_round)

    async def _experiment(
        self, experiment: Experiment, round_: Round | None, after_round: int
    ) -> views.ExperimentView:
        experiment_id = experiment.id
        enrolled = await self.repo.count_clients(experiment_id)
        now = self.context.clock()
        current = await self._round(experiment, round_) if round_ else None
        history = await self.repo.rounds(experiment_id, after_round)
        estimate = await self.rounds.metering.estimate(experiment, round_)
        refused = await self._always_refused(experiment, current)
        return views.ExperimentView(
            id=experiment.id,
            name=experiment.name,
            state=experiment.state,
            progress=headline(experiment, enrolled, current, now) + refused_for_ever(refused),
            reason=experiment.reason,
            pausing=bool(experiment.pausing) and not experiment.ended,
            config=_settings(experiment.config),
            enrolled=enrolled,
            round=experiment.round,
            model_version=experiment.model_version,
            created_at=_time(experiment.created_at),
            ended_at=_maybe_time(experiment.ended_at),
            part_bytes=self.context.limits.part_bytes,
            direct=self.context.direct,
            current_round=current,
            always_refused=refused,
            history=[self._summary(r) for r in history],
            evaluations=await self.repo.count_evaluations(experiment_id),
            cost=self._cost(experiment, estimate),
            now=_time(now),
            retry_after=self._pause(experiment, round_, now),
        )

    async def _always_refused(
        self, experiment: Experiment, current: views.RoundView | None
    ) -> list[views.RefusalView]:
        found = await always_refused(
            self.repo,
            experiment.id,
            ended=experiment.ended,
            reported=[slot_named(name) for name in current.reported] if current else [],
        )
        return [_refusal_view(refusal) for refusal in found]

    def _cost(self, experiment: Experiment, found: Estimate) -> views.CostView:
        usage, prices = found.usage, self.context.prices
        return views.CostView(
            usd=found.cost.usd,
            budget_usd=experiment.config.budget_usd,
            items=found.cost.items,
            requests=round(usage.requests + usage.ticks, 1),
            gb_seconds=found.cost.gb_seconds,
            bytes_up=round(usage.bytes_in),
            bytes_down=round(usage.bytes_out + usage.bytes_direct),
            region=prices.region,
            memory_mb=prices.memory_mb,
            request_ms=prices.request_ms,
            prices_as_of=prices.as_of,
        )

    def _summary(self, round_: Round) -> views.RoundSummary:
        return views.RoundSummary(
            number=round_.number,
            attempt=round_.attempt,
            state=round_.state,
            accepted=len(round_.accepted),
            contributors=_ids(round_.accepted),
            opened_at=_time(round_.opened_at),
            closed_at=_maybe_time(round_.closed_at),
            num_examples=round_.num_examples,
            update_bytes=round_.update_bytes,
            metrics=round_.metrics,
            cost_usd=self.rounds.metering.usd(round_.usage) if round_.usage else None,
        )

    def _pause(self, experiment: Experiment, round_: Round | None, now: float) -> float:
        """Seconds that grow with the time waited: nobody asks often where nothing happens."""
        since = round_.opened_at if round_ else experiment.created_at
        return round(max(1.0, min(0.05 * (now - since), self.context.limits.poll_max_seconds)), 1)

    async def round(self, experiment_id: str, number: int) -> views.RoundView:
        """Raises NotFound."""
        experiment, current = await self.rounds.advance(experiment_id)
        if current and current.number == number:
            return await self._round(experiment, current)
        round_ = await self.repo.round(experiment_id, number)
        if round_ is None:
            raise NotFound(f"Round {number} is not open yet; round {experiment.round} is the last.")
        return await self._round(experiment, round_)

    async def _round(self, experiment: Experiment, round_: Round) -> views.RoundView:
        updates = await self.repo.updates(round_.experiment_id, round_.number)
        if round_.state in (RoundState.AGGREGATING, RoundState.CLOSED):
            updates = [u for u in updates if u.slot in round_.accepted]
        refusals = await self.repo.refusals(round_.experiment_id, round_.number)
        reported = [u.slot for u in updates]
        refused = [r for r in refusals if r.slot not in reported]
        settled = {*reported, *(r.slot for r in refused)}
        # What was so when the round was sealed; until then, what is so now.
        out = experiment.revoked if round_.state in _UNSEALED else round_.revoked
        revoked = [s for s in round_.cohort if s in out and s not in settled]
        settled.update(revoked)
        return views.RoundView(
            number=round_.number,
            attempt=round_.attempt,
            state=round_.state,
            base_version=round_.base_version,
            cohort=_ids(round_.cohort),
            reported=_ids(reported),
            missing=_ids(s for s in round_.cohort if s not in settled),
            refused=[_refusal_view(r) for r in refused],
            revoked=_ids(revoked),
            updates=[
                views.UpdateView(
                    client=client_id(u.slot),
                    num_examples=u.num_examples,
                    sha256=u.blob.sha256,
                    size=u.blob.size,
                    metrics=u.metrics,
                    received_at=_time(u.received_at),
                    norm=u.norm,
                    scale=u.scale,
                )
                for u in updates
            ],
            earlier_attempts=[
                views.AttemptView(
                    attempt=a.attempt,
                    cohort=_ids(a.cohort),
                    reported=_ids(a.reported),
                    missing=_ids(s for s in a.cohort if s not in a.settled),
                    revoked=_ids(a.revoked),
                    ended_at=_time(a.ended_at),
                )
                for a in round_.earlier
            ],
            group_size=round_.cut.group_size if round_.cut else None,
            opened_at=_time(round_.opened_at),
            deadline=_time(round_.deadline),
            closed_at=_maybe_time(round_.closed_at),
            num_examples=round_.num_examples,
            update_bytes=round_.update_bytes,
            aggregation_seconds=round_.aggregation_seconds,
            metrics=round_.metrics,
        )

    async def clients(
        self, experiment_id: str, after: int | None, limit: int
    ) -> list[views.ClientView]:
        experiment = await self.repo.experiment(experiment_id)
        place = "" if after is None else client_key(experiment_id, after)
        found = await self.repo.clients(experiment_id, place, limit)
        return [client_view(experiment, c) for c in found]

    async def models(self, experiment_id: str, after: int = -1) -> list[views.ModelView]:
        experiment = await self.repo.experiment(experiment_id)
        newest = -1 if experiment.model_version is None else experiment.model_version
        by_version: dict[int, list[Evaluation]] = {}
        for evaluation in await self.repo.evaluations(experiment_id, after):
            by_version.setdefault(evaluation.version, []).append(evaluation)
        return [
            model_view(m, by_version.get(m.version, []), kept=experiment.keeps(m.version))
            for m in await self.repo.models(experiment_id, after)
            if m.version <= newest
        ]


def model_view(
    model: ModelVersion, evaluations: list[Evaluation], *, kept: bool = True
) -> views.ModelView:
    return views.ModelView(
        version=model.version,
        sha256=model.blob.sha256,
        size=model.blob.size,
        parent_sha256=model.parent_sha256,
        config_sha256=model.config_sha256,
        updates_sha256=model.updates_sha256,
        encoded=schema.BlobInfo(sha256=model.copy.sha256, size=model.copy.size)
        if model.copy
        else None,
        created_at=_time(model.created_at),
        kept=kept,
        evaluations=[evaluation_view(e) for e in evaluations],
    )


def _refusal_view(refusal: Refusal) -> views.RefusalView:
    return views.RefusalView(
        client=client_id(refusal.slot), code=refusal.code, reason=refusal.reason
    )


def evaluation_view(evaluation: Evaluation) -> views.EvaluationView:
    return views.EvaluationView(
        source=evaluation.source, num_examples=evaluation.num_examples, metrics=evaluation.metrics
    )


def client_view(experiment: Experiment, client: Client) -> views.ClientView:
    return views.ClientView(
        id=client.id,
        name=client.name,
        shard_size=shard_size(experiment, client.slot),
        enrolled_at=_time(client.enrolled_at),
        revoked_at=_maybe_time(client.revoked_at),
    )


def _settings(config: Config) -> schema.ExperimentConfig:
    """As they are; names that were taken before control characters were refused lose these."""
    named = {"dataset": clean(config.dataset), "model": clean(config.model)}
    return schema.ExperimentConfig(**config.flat() | named)


def _ids(slots: Iterable[int]) -> list[str]:
    return [client_id(slot) for slot in slots]


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _maybe_time(seconds: float | None) -> datetime | None:
    return None if seconds is None else _time(seconds)
