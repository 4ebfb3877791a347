"""Reads experiments, rounds, clients and models from the store, for people and pages."""

from __future__ import annotations

from app.service.clients.enrolment import Enrolled
from app.service.context import Context
from app.service.data.left_out import describe_left_out, left_out
from app.service.data.shards import examples_of
from app.service.reading.details import (
    ExperimentDetails,
    ListedExperiment,
    ModelDetails,
    PastRound,
    RoundDetails,
)
from app.service.reading.headline import always_refused, describe_always_refused, headline
from app.service.records.keys import client_key
from app.service.rounds.machine import Rounds
from app.service.waking import addresses
from serverless_fl.domain.errors import NotFound
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.records import Evaluation
from serverless_fl.domain.round import PHASES, Round, RoundState

_UNSEALED = frozenset({RoundState.COLLECTING, RoundState.ABANDONED})
_LISTED = frozenset(
    {
        *(RoundState.CONFIRMING, RoundState.UNMASKING),
        *(RoundState.AGGREGATING, RoundState.CLOSED),
    }
)


class Views:
    """Reads, and writes nothing but what `Rounds.advance` does."""

    def __init__(self, context: Context, rounds: Rounds) -> None:
        self.context = context
        self.repo = context.repo
        self.rounds = rounds

    async def experiments(self, after: str, limit: int) -> list[ListedExperiment]:
        """Up to `limit` experiments, oldest first, whose ids come after `after`."""
        found = await self.repo.experiments(after, limit)
        return [ListedExperiment(e, self.rounds.metering.usd(e.usage)) for e in found]

    async def experiment(self, experiment_id: str, after_round: int = 0) -> ExperimentDetails:
        """An experiment, with the history above `after_round`. Raises NotFound.

        Advances the experiment first, so that nothing of it is overdue.
        """
        experiment, round_ = await self.rounds.advance(experiment_id)
        return await self._experiment(experiment, round_, after_round)

    async def as_stored(self, experiment_id: str, after_round: int = 0) -> ExperimentDetails:
        """As `experiment`, but without advancing it: a step may be overdue. Raises NotFound."""
        experiment, round_ = await self.repo.with_round(experiment_id)
        return await self._experiment(experiment, round_, after_round)

    async def _experiment(
        self, experiment: Experiment, round_: Round | None, after_round: int
    ) -> ExperimentDetails:
        experiment_id = experiment.id
        enrolled = await self.repo.count_clients(experiment_id)
        now = self.context.clock()
        current = await self._round(experiment, round_) if round_ else None
        history = await self.repo.rounds(experiment_id, after_round)
        estimate = await self.rounds.metering.estimate(experiment, round_)
        refused = await always_refused(
            self.repo,
            experiment_id,
            ended=experiment.ended,
            reported=[update.slot for update in current.updates] if current else [],
        )
        absent = await left_out(self.repo, experiment)
        progress = headline(experiment, enrolled, current, now)
        if not experiment.config.secret_cohorts:  # it names who took part
            progress += describe_always_refused(refused) + describe_left_out(absent)
        return ExperimentDetails(
            experiment=experiment,
            progress=progress,
            enrolled=enrolled,
            current=current,
            history=[self._past(r) for r in history],
            always_refused=refused,
            left_out=absent,
            evaluations=await self.repo.count_evaluations(experiment_id),
            estimate=estimate,
            prices=self.context.prices,
            part_bytes=self.context.limits.part_bytes,
            direct=self.context.direct,
            now=now,
            retry_after=self._pause(experiment, round_, now),
        )

    def _past(self, round_: Round) -> PastRound:
        cost = self.rounds.metering.usd(round_.usage) if round_.usage else None
        return PastRound(round=round_, cost_usd=cost)

    def _pause(self, experiment: Experiment, round_: Round | None, now: float) -> float:
        """Seconds, in proportion to the time since the round was opened."""
        since = round_.opened_at if round_ else experiment.created_at
        return round(max(1.0, min(0.05 * (now - since), self.context.limits.poll_max_seconds)), 1)

    async def round(self, experiment_id: str, number: int) -> RoundDetails:
        """A round that was opened. Raises NotFound."""
        experiment, current = await self.rounds.advance(experiment_id)
        if current and current.number == number:
            return await self._round(experiment, current)
        round_ = await self.repo.round(experiment_id, number)
        if round_ is None:
            raise NotFound(f"Round {number} is not open yet; round {experiment.round} is the last.")
        return await self._round(experiment, round_)

    async def _round(self, experiment: Experiment, round_: Round) -> RoundDetails:
        if round_.state in _LISTED:
            updates = await self.repo.accepted_updates(round_)
        else:
            updates = await self.repo.updates(round_)
        refusals = await self.repo.refusals(round_.experiment_id, round_.number)
        reported = {u.slot for u in updates}
        refused = [r for r in refusals if r.slot not in reported]
        settled = {*reported, *(r.slot for r in refused)}
        # A sealed round has its own list, of the moment of the seal.
        out = experiment.revoked if round_.state in _UNSEALED else round_.revoked
        revoked = [s for s in round_.cohort if s in out and s not in settled]
        settled.update(revoked)
        missing = [slot for slot in round_.cohort if slot not in settled]
        if round_.state in PHASES:
            done = {*await self.repo.phase_slots(round_), *experiment.revoked}
            missing = [slot for slot in round_.awaited if slot not in done]
        return RoundDetails(
            round=round_,
            updates=updates,
            refusals=refused,
            revoked=revoked,
            missing=missing,
        )

    async def clients(self, experiment_id: str, after: int | None, limit: int) -> list[Enrolled]:
        """Up to `limit` clients whose slots come after `after`. Raises NotFound."""
        experiment = await self.repo.experiment(experiment_id)
        place = "" if after is None else client_key(experiment_id, after)
        found = await self.repo.clients(experiment_id, place, limit)
        rules = await addresses.rules_of(self.context, experiment_id, place, limit)
        return [
            Enrolled(client, examples_of(experiment, client), rules.get(client.slot, ""))
            for client in found
        ]

    async def models(self, experiment_id: str, after: int = -1) -> list[ModelDetails]:
        """The model versions above `after`. Raises NotFound."""
        experiment = await self.repo.experiment(experiment_id)
        newest = -1 if experiment.model_version is None else experiment.model_version
        by_version: dict[int, list[Evaluation]] = {}
        for evaluation in await self.repo.evaluations(experiment_id, after):
            by_version.setdefault(evaluation.version, []).append(evaluation)
        return [
            ModelDetails(
                model=model,
                evaluations=by_version.get(model.version, []),
                kept=experiment.keeps(model.version),
            )
            for model in await self.repo.models(experiment_id, after)
            if model.version <= newest
        ]
