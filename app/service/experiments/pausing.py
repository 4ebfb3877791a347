"""Pauses an experiment between two rounds for the admin, and lets it go on.

It goes on with another budget, or with more rounds, which an experiment may get after its last
round, too.
"""

from __future__ import annotations

from dataclasses import replace

from app.service.context import Context
from app.service.cost.epsilon import over_epsilon
from app.service.rounds.machine import Rounds
from app.telemetry.logs import log_event
from serverless_fl.domain.errors import BudgetReached, Conflict, InvalidConfig
from serverless_fl.domain.experiment import MAX_PAUSES, BudgetChange, Experiment, ExperimentState
from serverless_fl.privacy import mechanism_of

_S = ExperimentState


class Pausing:
    """Pauses and resumes for the admin. `Rounds` makes the coordinator's own pauses."""

    def __init__(self, context: Context, rounds: Rounds) -> None:
        self.context = context
        self.repo = context.repo
        self.rounds = rounds

    async def pause(self, experiment_id: str, by: str) -> None:
        """Let the open round end, and open no further one.

        A paused experiment stays as it is, and so does one that is about to be paused. Raises
        NotFound, and Conflict if the experiment is not running.
        """
        while True:
            experiment = await self.repo.experiment(experiment_id)
            if experiment.state is _S.PAUSED or experiment.pausing:
                break
            if experiment.state is not _S.RUNNING:
                raise Conflict(
                    f"The experiment is {experiment.state}: only a running one can be paused."
                )
            if await self.repo.save_experiment(replace(experiment, pausing=by)):
                log_event("pause asked for", experiment=experiment_id, by=by)
                break
        await self.rounds.advance(experiment_id)  # its round may be closed by now

    async def resume(
        self,
        experiment_id: str,
        budget: float | None,
        by: str,
        rounds: int | None = None,
        epsilon: float | None = None,
    ) -> None:
        """Open the next round, and set the budgets and the number of rounds if they are given.

        A running experiment only gets these; a completed one runs again if it gets more rounds.
        Raises NotFound, Conflict if the experiment cannot go on or would get fewer rounds, and
        BudgetReached if the estimated cost is not below the budget, or if another round could go
        beyond that of privacy; InvalidConfig for a budget of privacy that is none.
        """
        while True:
            experiment = await self.repo.experiment(experiment_id)
            if experiment.ended and rounds is None:
                raise Conflict(f"The experiment is {experiment.state}: it cannot go on.")
            changed = await self._resumed(experiment, budget, rounds, by, epsilon)
            if changed == experiment:
                break
            if await self.repo.save_experiment(changed):
                log_event(
                    "experiment resumed",
                    experiment=experiment_id,
                    by=by,
                    rounds=changed.config.rounds,
                )
                break
        await self.rounds.advance(experiment_id)

    async def _resumed(
        self,
        experiment: Experiment,
        budget: float | None,
        rounds: int | None,
        by: str,
        epsilon: float | None,
    ) -> Experiment:
        """The experiment after that; an equal one if there is nothing to change."""
        now = self.context.clock()
        changed = replace(experiment, pausing="")
        if budget is not None and budget != experiment.config.budget_usd:
            change = BudgetChange(usd=budget, changed_at=now, changed_by=by)
            changed = replace(
                changed,
                config=replace(experiment.config, budget_usd=budget),
                budgets=(*experiment.budgets, change)[-MAX_PAUSES:],
            )
        if epsilon is not None and epsilon != experiment.config.budget_epsilon:
            if not mechanism_of(experiment.config).keeps_ledger:
                raise InvalidConfig(
                    f"Privacy {experiment.config.privacy.name} spends no epsilon: leave "
                    "budget_epsilon out."
                )
            change = BudgetChange(usd=None, epsilon=epsilon, changed_at=now, changed_by=by)
            changed = replace(
                changed,
                config=replace(changed.config, budget_epsilon=epsilon),
                budgets=(*changed.budgets, change)[-MAX_PAUSES:],
            )
        if rounds is not None:
            changed = changed.extend(rounds, now, by)
        if changed != experiment or experiment.state is _S.PAUSED:
            await self._require_budget(changed)
        if experiment.state is _S.PAUSED:
            over = await self.rounds.metering.closed(experiment)
            return changed.resume(now, by, usage=over.usage)
        return changed

    async def _require_budget(self, experiment: Experiment) -> None:
        """Raises BudgetReached."""
        round_ = await self.repo.round(experiment.id, experiment.round)
        if reason := await self.rounds.metering.over_budget(experiment, round_):
            raise BudgetReached(reason)
        if round_ is not None and (reason := over_epsilon(experiment)):
            raise BudgetReached(reason)
