"""Pauses between rounds: by the admin's hand; and the way out of them and of a spent budget."""

from __future__ import annotations

from dataclasses import replace

from app.service.context import Context
from app.service.cost.metering import refusal
from app.service.rounds.machine import Rounds
from app.telemetry.logs import log_event
from serverless_fl.domain.errors import BudgetReached, Conflict
from serverless_fl.domain.experiment import MAX_PAUSES, BudgetChange, Experiment, ExperimentState

_S = ExperimentState


class Pausing:
    """What the admin may do about it. The coordinator's own pauses are `Rounds`' business."""

    def __init__(self, context: Context, rounds: Rounds) -> None:
        self.context = context
        self.repo = context.repo
        self.rounds = rounds

    async def pause(self, experiment_id: str, by: str) -> None:
        """Open no further round: the one that is open is brought to its end first.

        Nothing happens to an experiment that is paused already, or about to be. Raises NotFound,
        and Conflict where no round has been opened yet, or none will be any more.
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

    async def resume(self, experiment_id: str, budget: float | None, by: str) -> None:
        """Go on, with another budget where one is given; a running one just gets the budget.

        Nothing happens to a running experiment that has this budget. Raises NotFound, Conflict
        where it has ended, and BudgetReached where the estimate is not below the budget.
        """
        while True:
            experiment = await self.repo.experiment(experiment_id)
            if experiment.ended:
                raise Conflict(f"The experiment is {experiment.state}: it cannot go on.")
            changed = await self._resumed(experiment, budget, by)
            if changed == experiment:
                break
            if await self.repo.save_experiment(changed):
                log_event("experiment resumed", experiment=experiment_id, by=by)
                break
        await self.rounds.advance(experiment_id)

    async def _resumed(self, experiment: Experiment, budget: float | None, by: str) -> Experiment:
        """The experiment as it shall go on; the same one where there is nothing to do."""
        now = self.context.clock()
        changed = replace(experiment, pausing="")
        if budget is not None and budget != experiment.config.budget_usd:
            change = BudgetChange(usd=budget, changed_at=now, changed_by=by)
            changed = replace(
                changed,
                config=replace(experiment.config, budget_usd=budget),
                budgets=(*experiment.budgets, change)[-MAX_PAUSES:],
            )
        if changed != experiment or experiment.state is _S.PAUSED:
            await self._require_budget(changed)
        if experiment.state is _S.PAUSED:
            over = await self.rounds.metering.closed(experiment)
            return changed.resume(now, by, usage=over.usage)
        return changed

    async def _require_budget(self, experiment: Experiment) -> None:
        """Raises BudgetReached."""
        round_ = await self.repo.round(experiment.id, experiment.round)
        found = await self.rounds.metering.estimate(experiment, round_)
        budget = experiment.config.budget_usd
        if budget is not None and found.reached(budget):
            raise BudgetReached(refusal(found, budget))
