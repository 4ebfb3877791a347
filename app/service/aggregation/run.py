"""Runs the tasks of an aggregation, as far as the budget of a call goes.

Groups of a cohort are summed, or stacked, as soon as they are full, long before the round closes.
The call that fills a group does it. If that call dies or has too little time, the next call that
checks the whole round does, and in the end the close. The name of a stored result is a digest of
the updates in it, and a refused client may come back with a better update. So the close never takes
the result of a group whose updates have changed since.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from app.service.aggregation.leases import Held, is_free, new_lease, work_under_lease
from app.service.aggregation.tasks import Aggregation, Task
from app.service.call_budget import CallBudget
from app.service.context import Context
from app.telemetry import metrics
from app.telemetry.logs import log_event
from serverless_fl import tracing
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.round import FullGroup, Round


async def sum_groups(
    context: Context,
    experiment: Experiment,
    round_: Round,
    groups: Mapping[int, FullGroup | None],
    budget: CallBudget,
) -> None:
    """Sum full groups of a round that still collects, as far as the budget goes.

    `groups` maps their numbers to their records, or to None where no call has begun.
    """
    for number, begun in groups.items():
        if not await _sum_group(context, experiment, round_, number, begun, budget):
            return


async def _sum_group(
    context: Context,
    experiment: Experiment,
    round_: Round,
    number: int,
    begun: FullGroup | None,
    budget: CallBudget,
) -> bool:
    """Sum a group unless another call does; return whether the call may do more."""
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
    elif not await is_free(context, begun):
        return True
    else:
        mine = replace(begun, lease=new_lease(context, begun.lease))

    async def work(held: Held[FullGroup]) -> bool:
        started, slots, done = context.monotonic(), round_.members(number), True
        if updates := await context.repo.updates_of(round_, slots):
            aggregation = await Aggregation.of(context, experiment, round_, updates)
            with log_work(aggregation):
                done = await run_tasks(held, aggregation, aggregation.group_tasks(), budget)
        seconds = held.record.seconds + context.monotonic() - started
        await held.release(done=done, seconds=seconds)
        return done

    return await work_under_lease(context, round_, mine, work, budget)


async def run_tasks(
    held: Held[Any], aggregation: Aggregation, tasks: AsyncIterator[Task], budget: CallBudget
) -> bool:
    """Do tasks as far as the budget goes; say whether all are done.

    Raises LostLease, and as `Aggregation.do` does.
    """
    async for task in tasks:
        if not budget.take(task.reads):
            return False
        await aggregation.do(task)
        await held.renew_if_old()
    return True


@contextmanager
def log_work(aggregation: Aggregation) -> Iterator[None]:
    """Count and log what one call does of an aggregation, however it ends."""
    experiment, number = aggregation.experiment.id, aggregation.round.number
    started = time.perf_counter()
    try:
        with tracing.round_span("aggregate", experiment, number):
            yield
    finally:
        seconds = time.perf_counter() - started
        metrics.AGGREGATION_SECONDS.observe(seconds)
        metrics.AGGREGATION_BYTES.add(aggregation.bytes_added)
        metrics.AGGREGATION_CELLS.add(aggregation.tasks_done)
        log_event(
            "aggregation step",
            experiment=experiment,
            round=number,
            cells=aggregation.tasks_done,
            bytes=aggregation.bytes_added,
            seconds=round(seconds, 4),
        )
