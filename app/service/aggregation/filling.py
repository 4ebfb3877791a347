"""Groups of a cohort are summed as they fill, long before the round closes.

A group is full when each of its slots has an update, or none is to be expected of it. The call that
fills a group sums it. What that call does not do is left to the next call that looks at the whole
round, and in the end to the close. Sums are named by a digest of the updates in them. So the close
does not take the sums of a group whose updates have changed since: a client that was refused may
come back with a better update.
"""

from __future__ import annotations

from dataclasses import replace

from app.service.aggregation.finish import do_tasks, measured
from app.service.aggregation.leases import Held, is_free, new_lease, work_under_lease
from app.service.call_budget import CallBudget
from app.service.context import Context
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.round import FullGroup, Round


async def sum_full_groups(
    context: Context,
    experiment: Experiment,
    round_: Round,
    settled: set[int],
    budget: CallBudget,
) -> None:
    """Sum all groups whose slots are settled, as far as the call may."""
    groups = range(round_.group_count)
    full = [number for number in groups if settled.issuperset(round_.members(number))]
    begun = await context.repo.full_groups(round_) if full else {}
    for number in full:
        if not await _sum_if_free(context, experiment, round_, number, begun.get(number), budget):
            return


async def sum_full_group(
    context: Context, experiment: Experiment, round_: Round, number: int, budget: CallBudget
) -> None:
    """Sum a group that is full, as far as the call may."""
    key = experiment.id, round_.number, round_.attempt, number
    begun = await context.repo.full_group(*key)
    await _sum_if_free(context, experiment, round_, number, begun, budget)


async def _sum_if_free(
    context: Context,
    experiment: Experiment,
    round_: Round,
    number: int,
    begun: FullGroup | None,
    budget: CallBudget,
) -> bool:
    """Sum a group unless other calls do or did; say whether the call may do more."""
    if budget.spent:
        return False
    if begun is None:
        mine = FullGroup(
            experiment_id=experiment.id,
            round=round_.number,
            attempt=round_.attempt,
            group=number,
            lease=new_lease(context),
        )
    elif begun.done or not await is_free(context, begun):
        return True
    else:
        mine = replace(begun, lease=new_lease(context, begun.lease))

    async def work(held: Held[FullGroup]) -> bool:
        return await _sum(held, experiment, round_, budget)

    return await work_under_lease(context, round_, mine, work, budget)


async def _sum(
    held: Held[FullGroup], experiment: Experiment, round_: Round, budget: CallBudget
) -> bool:
    """Form the group's sums; say whether nothing of them is left. Raises LostLease."""
    # Imported here: it brings NumPy, which a process that only answers polls never needs.
    from app.service.aggregation.run import Aggregation

    context, group, started = held.context, held.record, held.context.monotonic()
    slots, done = round_.members(group.group), True
    if updates := await context.repo.updates_of(experiment.id, round_.number, slots):
        aggregation = await Aggregation.of(context, experiment, round_, updates)
        with measured(aggregation):
            done = await do_tasks(held, aggregation, aggregation.group_tasks(), budget)
    await held.release(done=done, seconds=group.seconds + context.monotonic() - started)
    return done
