"""The scheduled tick: every open experiment gets its turn, then what is left over is swept.

A tick is one call, and a platform ends it after some seconds. So all its aggregations share one
budget; it stops looking at experiments after a while, and the next tick begins where this one
stopped; and sweeping has time of its own. What goes wrong in one experiment is logged and keeps
nobody else waiting. The tick fails at its end, so that whoever watches it is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from app.service.call_budget import CallBudget
from app.service.context import Context
from app.service.experiments.deletion import erase
from app.service.experiments.lifecycle import Experiments
from app.service.files import announcements
from app.service.journal import COORDINATOR
from app.service.rounds import cleanup
from app.service.rounds.machine import Rounds
from app.service.rounds.retention import drop_garbage
from app.telemetry import ids
from app.telemetry.logs import DEBUG, ERROR, INFO, WARNING, log_event
from serverless_fl.domain.errors import CoordinatorError, TickFailed
from serverless_fl.domain.experiment import Experiment

LOOKING = 1.5  # times `Limits.step_seconds`: so long after its start a tick begins no other look
SWEEPING = 0.5  # times `Limits.step_seconds`, after that
CANDIDATES = 20  # rounds that are looked at for uploads to delete, however long the looks take


class Ticks:
    """Looks at all experiments, whoever asks for it."""

    def __init__(self, context: Context, rounds: Rounds, experiments: Experiments) -> None:
        self.context = context
        self.rounds = rounds
        self.experiments = experiments

    async def tick(self) -> list[str]:
        """Advance the open experiments and sweep; gives the ids of those that were looked at.

        Raises TickFailed, after all that could be done.
        """
        started, step = self.context.monotonic(), self.context.limits.step_seconds
        budget, faults = CallBudget(self.context), dict[str, Exception]()
        looked_at: list[str] = []
        first, stopped_at = await self.context.repo.tick_start(), ""
        due, doomed = await self._due()
        for experiment in _from(due, first):
            if looked_at and self.context.monotonic() - started >= LOOKING * step:
                break
            had_time = not budget.spent
            await self._guarded(experiment.id, self._look_at(experiment, budget), faults)
            if budget.faults:  # of an aggregation: whoever only polls is not told
                faults[experiment.id] = budget.faults.pop()
                budget.faults.clear()
            if had_time:
                stopped_at = experiment.id  # what comes after it has had no share
            if not experiment.ended:
                looked_at.append(experiment.id)
        else:
            stopped_at = stopped_at if budget.spent else ""
        if stopped_at != first:
            await self.context.repo.save_tick_start(stopped_at)
        until = self.context.monotonic() + SWEEPING * step
        await self._guarded("uploads", self._sweep(doomed, until, faults), faults)
        if self.context.direct:
            await self._guarded("initial models", self._sweep_initials(faults), faults)
        # Once a minute for ever: of an idle coordinator nobody wants to read that.
        level, seconds = INFO if looked_at else DEBUG, self.context.monotonic() - started
        log_event("tick", level, experiments=len(looked_at), seconds=round(seconds, 4))
        if faults:
            raise _failed(faults)
        return looked_at

    async def _due(self) -> tuple[list[Experiment], list[Experiment]]:
        """By id: the experiments to look at, and those of which something is to be deleted."""
        due, doomed, after = list[Experiment](), list[Experiment](), ""
        while page := await self.context.repo.with_tombstones(after, 1000):
            for experiment in page:
                deleted = experiment.deleted_at is not None
                if (deleted and not experiment.swept) or experiment.garbage:
                    doomed.append(experiment)
                if not deleted and (
                    not experiment.ended or cleanup.recently_ended(self.context, experiment)
                ):
                    due.append(experiment)
            after = page[-1].id
        return due, doomed

    async def _look_at(self, experiment: Experiment, budget: CallBudget) -> None:
        if cleanup.abandoned(self.context, experiment):
            reason = "Its initial weights were never committed."
            await self.experiments.stop(experiment.id, reason, COORDINATOR)
        else:
            await self.rounds.advance(experiment.id, budget=budget)

    async def _sweep(
        self, doomed: list[Experiment], until: float, faults: dict[str, Exception]
    ) -> None:
        """Delete what nobody needs: at least one thing of each kind, then while there is time.

        Most rounds with uploads are open, and nothing of theirs is deleted: a tick that stopped at
        the first of them would have done nothing.
        """
        for experiment in doomed:
            await self._guarded(experiment.id, self._delete(experiment), faults)
            if self.context.monotonic() >= until:
                break
        deleted = False
        for looks, candidate in enumerate(await cleanup.stale_candidates(self.context), 1):
            work = cleanup.drop_stale_uploads(self.context, *candidate, until)
            deleted |= bool(await self._guarded(candidate[0], work, faults))
            if (deleted or looks >= CANDIDATES) and self.context.monotonic() >= until:
                break

    async def _sweep_initials(self, faults: dict[str, Exception]) -> None:
        """What came by signed URLs beside initial weights."""
        for experiment_id, until in (
            await announcements.initials(self.context.repo.documents)
        ).items():
            work = cleanup.drop_late_initial(self.context, experiment_id, until)
            await self._guarded(experiment_id, work, faults)

    async def _delete(self, found: Experiment) -> None:
        if found.deleted_at is not None:
            await erase(self.context, found)
            return
        experiment = await self.context.repo.experiment(found.id)  # it may have gone on since
        if experiment.garbage:
            await drop_garbage(self.context, experiment, patient=True)

    async def _guarded(
        self, what: str, work: Awaitable[object], faults: dict[str, Exception]
    ) -> object:
        """What it gives; of a fault None, which is logged and kept."""
        try:
            return await work
        except CoordinatorError as error:
            log_event("tick went on without", WARNING, experiment=what, cause=error.message)
            faults[what] = error
        except Exception as error:
            log_event("tick went on without", ERROR, experiment=what, error=error)
            faults[what] = error
        return None


def _from(found: list[Experiment], first: str) -> list[Experiment]:
    """In turn, beginning after the one at which the last tick stopped."""
    later = [experiment for experiment in found if experiment.id > first]
    return [*later, *(experiment for experiment in found if experiment.id <= first)]


def _failed(faults: dict[str, Exception]) -> TickFailed:
    first, error = next(iter(faults.items()))
    told = error.message if isinstance(error, CoordinatorError) else repr(error)
    return TickFailed(f"The tick had {len(faults)} faults; the first, at {first}: {told}")


@asynccontextmanager
async def ticking(ticks: Ticks, seconds: float) -> AsyncIterator[None]:
    """Tick every so often while the server runs, so that deadlines strike though nobody polls."""

    async def tick() -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                with ids.belonging_to():
                    await ticks.tick()
            except CoordinatorError as error:
                log_event("tick failed", WARNING, cause=error.message)  # the next one tries again
            except Exception as error:
                log_event("tick failed", ERROR, error=error)

    task = asyncio.create_task(tick()) if seconds else None
    try:
        yield
    finally:
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
