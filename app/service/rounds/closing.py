"""A round from its seal to its close: its list of updates is frozen, and calls aggregate it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from app.service import journal
from app.service.aggregation.leases import Held, is_free, new_lease, work_under_lease
from app.service.call_budget import CallBudget
from app.service.context import Context
from app.service.journal import COORDINATOR
from serverless_fl.aggregation import strategy_of
from serverless_fl.domain.errors import StoreUnavailable
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.round import Cut, Lease, Round, RoundState
from serverless_fl.schedule import schedule_of
from serverless_fl.weights.encodings import has_halves

MAX_DEATHS = 20  # so many calls may die over one round before the experiment fails


Again = Callable[[Experiment, Held[Round], str], Awaitable[None]]
"""Gives a round whose masked updates cannot be summed another attempt, or fails the experiment."""


class OutOfBudget(Exception):
    """This call has spent its budget for aggregations; another call goes on."""


async def cut_of(context: Context, experiment: Experiment) -> Cut:
    """The spans and groups of a round that is opened now.

    A part of state has the values of a span of the model. Where it needs twice the bytes, a span
    has half of them, so that the store takes the part.
    """
    limits = context.limits
    span_bytes = limits.part_bytes
    if strategy_of(experiment.config).state:
        span_bytes //= 1 + has_halves(await context.repo.layout(experiment.id))
    return Cut(span_bytes=span_bytes, group_size=limits.group_size)


async def fail(context: Context, experiment: Experiment, reason: str) -> None:
    """End an experiment that cannot go on."""
    failed = experiment.move(
        ExperimentState.FAILED,
        reason=reason.strip(),
        ended_at=context.clock(),
        ended_by=COORDINATOR,
    )
    if await context.repo.save_experiment(failed):
        journal.log_end(failed)


async def blobs_fault(context: Context) -> StoreUnavailable | None:
    """The error of a blob store that works for nobody now; None if it works.

    While it does not, no experiment fails: no client and no call is at fault.
    """
    try:
        # A working store answers that there is no such key. A broken or wrong one raises.
        await context.blobs.get("-")
    except StoreUnavailable as error:
        return error
    return None


class Closing:
    """The steps between the seal and the close; each returns whether to look again."""

    def __init__(self, context: Context, again: Again) -> None:
        self.context = context
        self.repo = context.repo
        self._again = again

    async def freeze(self, experiment: Experiment, round_: Round, budget: CallBudget) -> bool:
        """List the updates that came before the seal; if our list is stored first, aggregate it."""
        accepted = await self.repo.reported_slots(round_)
        if schedule_of(experiment.config).max_age is not None:
            # All were invited: groups are made of those that came.
            round_ = replace(round_, cohort=tuple(accepted))
        if round_.masked:
            unmasking = round_.move(
                await self._after_seal(round_),
                accepted=tuple(accepted),
                deadline=self.context.clock()
                + (0 if round_.helped else experiment.config.phase_seconds),
            )
            if await self.repo.save_round(unmasking):
                journal.log_round(unmasking, str(unmasking.state), updates=len(accepted))
            return True
        frozen = round_.move(
            RoundState.AGGREGATING,
            accepted=tuple(accepted),
            lease=new_lease(self.context),
            cut=round_.cut or await cut_of(self.context, experiment),
        )
        await self._aggregate(experiment, frozen, budget)
        return True

    async def _after_seal(self, round_: Round) -> RoundState:
        """What masked updates wait for: that the parties sign the list, if all have identities."""
        roster = set(round_.roster)
        keys = [] if round_.helped else await self.repo.phase_keys(round_)
        if roster and all(found.identity for found in keys if found.slot in roster):
            return RoundState.CONFIRMING
        return RoundState.UNMASKING

    async def unmask(self, experiment: Experiment, round_: Round, budget: CallBudget) -> bool:
        """Aggregate masked updates whose masks can be taken off their sum now."""
        unmasked = round_.move(RoundState.AGGREGATING, lease=new_lease(self.context))
        await self._aggregate(experiment, unmasked, budget)
        return True

    async def take_over(self, experiment: Experiment, round_: Round, budget: CallBudget) -> bool:
        """Go on with an aggregation whose owner has released its lease or fallen silent."""
        lease = round_.lease
        assert lease is not None  # noqa: S101  (the move into this state sets it)
        if budget.spent or not await is_free(self.context, round_):
            return False
        next_lease = new_lease(self.context, lease)
        if next_lease.deaths >= MAX_DEATHS:
            if (fault := await blobs_fault(self.context)) is not None:
                budget.faults.append(fault)
                return False
            reason = (
                f"Round {round_.number} could not be aggregated: {next_lease.deaths} calls began "
                "it and never came to an end. See the coordinator's log; it may need more memory "
                "or time."
            )
            await fail(self.context, experiment, reason)
            return True
        mine = round_.move(RoundState.AGGREGATING, lease=next_lease)
        await self._aggregate(experiment, mine, budget, lease)
        return True

    async def _aggregate(
        self,
        experiment: Experiment,
        mine: Round,
        budget: CallBudget,
        before: Lease | None = None,
    ) -> None:
        """Take the round's lease, in place of the one before, and aggregate under it.

        Raises OutOfBudget if this call cannot finish.
        """

        async def work(held: Held[Round]) -> bool:
            # Imported here: it brings NumPy, and most processes only answer polls.
            from app.service.aggregation.finish import AttemptFailed, CannotAggregate, aggregate

            if before is not None:
                journal.log_takeover(held.record, before)
            try:
                return await aggregate(held, experiment, budget)
            except AttemptFailed as error:
                await self._again(experiment, held, str(error))
                return True
            except CannotAggregate as error:
                await self._fail(experiment, mine, error)
                return True

        if not await work_under_lease(self.context, mine, mine, work, budget):
            raise OutOfBudget

    async def _fail(self, experiment: Experiment, mine: Round, error: Exception) -> None:
        # Another process may have closed the round and deleted its uploads. They are lost only if
        # the round is still open.
        now = await self.repo.round(experiment.id, mine.number)
        if now is not None and now.state is RoundState.AGGREGATING:
            reason = f"Round {mine.number} lost an accepted update: {error}"
            await fail(self.context, experiment, reason)
