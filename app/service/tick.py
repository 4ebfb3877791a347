"""The scheduled tick: it advances every open experiment, deletes files that came too late, tells
the operator's webhooks what has happened, and wakes up clients that are due.

A tick is one call, and a platform ends a call after some seconds. So all aggregations of a tick
share one budget. After a while it advances no more experiments, and the next tick begins where this
one stopped. The cleanup has time of its own. An error in one experiment is logged and holds up no
other one. The tick raises it at its end, so that the schedule's alarm sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager

from app.service.call_budget import CallBudget
from app.service.context import Context
from app.service.experiments.deletion import Deletion, erase
from app.service.experiments.lifecycle import Experiments
from app.service.files import announcements
from app.service.journal import COORDINATOR
from app.service.notices.delivery import Notices
from app.service.rounds import cleanup
from app.service.rounds.machine import Rounds
from app.service.rounds.retention import delete_garbage
from app.service.shielded import repeating
from app.service.waking.delivery import Waking
from app.telemetry.logs import DEBUG, ERROR, INFO, WARNING, log_event
from serverless_fl.domain.errors import CoordinatorError, TickFailed
from serverless_fl.domain.experiment import Experiment

# In units of `Limits.step_seconds`:
ADVANCE_STEPS = 1.5  # so long after its start a tick advances no other experiment
CLEANUP_STEPS = 0.5  # the cleanup goes on for so long
NOTICE_STEPS = 0.5  # webhooks are called for so long
WAKING_STEPS = 0.5  # clients are woken up for so long
MIN_CANDIDATES = 20  # the cleanup checks so many rounds for late uploads, however long that takes


class Ticks:
    """Ticks, for a schedule, an operator or the server's own clock."""

    def __init__(self, context: Context, rounds: Rounds, experiments: Experiments) -> None:
        self.context = context
        self.rounds = rounds
        self.experiments = experiments
        self.deletion = Deletion(context, experiments)
        self.notices = Notices(context)
        self.waking = Waking(context)

    async def tick(self) -> list[str]:
        """Advance the open experiments and clean up; return the ids of those that it came to.

        Raises TickFailed at the end, after everything that could be done.
        """
        started, step = self.context.monotonic(), self.context.limits.step_seconds
        budget, faults = CallBudget(self.context), dict[str, Exception]()
        advanced: list[str] = []
        first, stopped_at = await self.context.repo.tick_start(), ""
        due, doomed, told = await self._due()
        for experiment in _from(due, first):
            if advanced and self.context.monotonic() - started >= ADVANCE_STEPS * step:
                break
            had_time = not budget.spent
            await self._guarded(experiment.id, self._advance(experiment, budget), faults)
            if budget.faults:  # errors of an aggregation, which `advance` does not raise
                faults[experiment.id] = budget.faults.pop()
                budget.faults.clear()
            if had_time:
                stopped_at = experiment.id  # those after it had no share of the budget
            if not experiment.ended:
                advanced.append(experiment.id)
        else:
            stopped_at = stopped_at if budget.spent else ""
        if stopped_at != first:
            await self.context.repo.save_tick_start(stopped_at)
        until = self.context.monotonic() + CLEANUP_STEPS * step
        await self._guarded("uploads", self._clean_up(doomed, until, faults), faults)
        if self.context.direct:
            await self._guarded("initial models", self._clean_up_initials(faults), faults)
        if told:
            until = self.context.monotonic() + NOTICE_STEPS * step
            await self._guarded("webhooks", self.notices.deliver(told, until), faults)
        if running := [one.id for one in due if self.waking.concerns(one)]:
            until = self.context.monotonic() + WAKING_STEPS * step
            await self._guarded("wake-ups", self.waking.deliver(running, until), faults)
        # An idle coordinator writes this line once a minute: few operators want to read that.
        level, seconds = INFO if advanced else DEBUG, self.context.monotonic() - started
        log_event("tick", level, experiments=len(advanced), seconds=round(seconds, 4))
        if faults:
            raise _failed(faults)
        return advanced

    async def _due(self) -> tuple[list[Experiment], list[Experiment], list[str]]:
        """The experiments to advance, those with something to delete, and those that may have
        notices; all by id.
        """
        due, doomed, told, after = list[Experiment](), list[Experiment](), list[str](), ""
        while page := await self.context.repo.with_tombstones(after, 1000):
            for experiment in page:
                deleted = experiment.deleted_at is not None
                if (
                    (deleted and not experiment.swept)
                    or experiment.garbage
                    or (not deleted and self._expired(experiment))
                ):
                    doomed.append(experiment)
                if not deleted and (
                    not experiment.ended or cleanup.recently_ended(self.context, experiment)
                ):
                    due.append(experiment)
                if self.notices.concerns(experiment):
                    told.append(experiment.id)
            after = page[-1].id
        return due, doomed, told

    def _expired(self, experiment: Experiment) -> bool:
        """Say whether the days are over for which an ended experiment stays."""
        until = experiment.expires_at
        return until is not None and until <= self.context.clock()

    async def _advance(self, experiment: Experiment, budget: CallBudget) -> None:
        if cleanup.weights_overdue(self.context, experiment):
            reason = "Its initial weights were never committed."
            await self.experiments.stop(experiment.id, reason, COORDINATOR)
        else:
            await self.rounds.advance(experiment.id, budget=budget)

    async def _clean_up(
        self, doomed: list[Experiment], until: float, faults: dict[str, Exception]
    ) -> None:
        """Delete at least one thing of each kind, then go on while there is time.

        Most rounds with uploads are open, and lose none. A tick that stopped at the first of them
        would delete nothing, so it checks several.
        """
        for experiment in doomed:
            await self._guarded(experiment.id, self._delete(experiment), faults)
            if self.context.monotonic() >= until:
                break
        deleted = False
        for checked, candidate in enumerate(await cleanup.rounds_with_uploads(self.context), 1):
            work = cleanup.delete_late_uploads(self.context, *candidate, until)
            deleted |= bool(await self._guarded(candidate[0], work, faults))
            if (deleted or checked >= MIN_CANDIDATES) and self.context.monotonic() >= until:
                break

    async def _clean_up_initials(self, faults: dict[str, Exception]) -> None:
        """Delete what came by signed URLs beside initial weights."""
        for experiment_id, until in (
            await announcements.initials(self.context.repo.documents)
        ).items():
            work = cleanup.delete_late_initial(self.context, experiment_id, until)
            await self._guarded(experiment_id, work, faults)

    async def _delete(self, found: Experiment) -> None:
        if found.deleted_at is not None:
            await erase(self.context, found)
            return
        if self._expired(found):
            await self.deletion.expire(found.id)
            return
        experiment = await self.context.repo.experiment(found.id)  # as it is now
        if experiment.garbage:
            await delete_garbage(self.context, experiment, patient=True)

    async def _guarded(
        self, part: str, work: Awaitable[object], faults: dict[str, Exception]
    ) -> object:
        """The result of a part of the tick. An error is logged and added to `faults`."""
        try:
            return await work
        except CoordinatorError as error:
            log_event("part of a tick failed", WARNING, part=part, cause=error.message)
            faults[part] = error
        except Exception as error:
            log_event("part of a tick failed", ERROR, part=part, error=error)
            faults[part] = error
        return None


def _from(found: list[Experiment], first: str) -> list[Experiment]:
    """The experiments in turn, from the one behind that at which the last tick stopped."""
    later = [experiment for experiment in found if experiment.id > first]
    return [*later, *(experiment for experiment in found if experiment.id <= first)]


def _failed(faults: dict[str, Exception]) -> TickFailed:
    first, error = next(iter(faults.items()))
    text = error.message if isinstance(error, CoordinatorError) else repr(error)
    return TickFailed(f"The tick had {len(faults)} faults; the first, at {first}: {text}")


@asynccontextmanager
async def ticking(ticks: Ticks, seconds: float) -> AsyncIterator[None]:
    """Tick every `seconds` while the server runs, so that deadlines pass without polls."""

    async def tick() -> None:
        await asyncio.sleep(seconds)
        await ticks.tick()

    async with AsyncExitStack() as stack:
        if seconds:
            await stack.enter_async_context(repeating(tick, "tick failed", WARNING))
        yield
