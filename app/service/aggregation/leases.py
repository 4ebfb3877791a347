"""Leases: a process takes one, works under it, renews it, and releases it.

A lease covers a round that is aggregated, or a full group of a round that still collects. Leases
keep processes from doing the same work twice. The result does not depend on them: two owners store
the same bytes.

A clock may jump ahead for a moment (a virtual machine wakes up, a time server is wrong). A lease
that is written just then ends far in the future. So a process that finds such a lease moves its end
to where it would be if the lease began now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

from app.service import journal
from app.service.call_budget import CallBudget
from app.service.context import Context
from app.telemetry.logs import log_event
from serverless_fl.domain.errors import StoreUnavailable
from serverless_fl.domain.round import FullGroup, Lease, Round, RoundState

Leased = TypeVar("Leased", Round, FullGroup)
_RETRY_SECONDS = 0.5  # doubles with each try, until the lease has run out


class LostLease(Exception):
    """Another process has taken the work over, and goes on from what is stored."""


def length(context: Context, deaths: int) -> float:
    """The length of a lease in seconds. It grows with each owner that died.

    An owner renews its lease between tasks only. If all leases were equally short, a task that
    takes longer would be taken over again and again, and no owner would finish it.
    """
    return context.limits.lease_seconds * (1 + deaths)


def new_lease(context: Context, before: Lease | None = None) -> Lease:
    """A lease of this process that begins now and follows the lease `before`."""
    fence, deaths = 1, 0
    if before is not None:
        fence, deaths = before.fence + 1, before.deaths + (not before.released)
    return _lease(context, fence, deaths)


def _lease(context: Context, fence: int, deaths: int) -> Lease:
    expiry = context.clock() + length(context, deaths)
    return Lease(owner=context.worker, expires_at=expiry, fence=fence, deaths=deaths)


async def is_free(context: Context, leased: Leased) -> bool:
    """Whether any process may take the lease."""
    lease, now = _of(leased), context.clock()
    # A released lease is free at once, even if this clock is behind its owner's.
    if lease.released or now >= lease.expires_at:
        return True
    latest = now + length(context, lease.deaths)
    if lease.expires_at > latest:
        await _save(context, replace(leased, lease=replace(lease, expires_at=latest)))
    return False


async def work_under_lease(
    context: Context,
    round_: Round,
    leased: Leased,
    work: Callable[[Held[Leased]], Awaitable[bool]],
    budget: CallBudget,
) -> bool:
    """Store the lease that is in `leased`, and work under it; say whether the work is finished.

    All of this runs in a task of its own, so a caller that goes away leaves no lease behind. Errors
    are no fault of the caller: `budget.faults` collects them.
    """
    return await context.tasks.finish(_work(context, round_, leased, work, budget))


async def _work(
    context: Context,
    round_: Round,
    leased: Leased,
    work: Callable[[Held[Leased]], Awaitable[bool]],
    budget: CallBudget,
) -> bool:
    if not await _save(context, leased):
        return True  # another process was faster
    held = Held(context, replace(leased, revision=leased.revision + 1))
    try:
        return await work(held)
    except LostLease:
        return True
    except asyncio.CancelledError:
        await held.give_back()
        raise
    except StoreUnavailable as error:
        # The next call tries again, for as long as the store is away.
        await held.give_back()
        journal.log_waiting(round_, error)
        budget.faults.append(error)
    except Exception as error:
        # The lease stays until it runs out, so that not every call tries again at once.
        now = await context.repo.round(round_.experiment_id, round_.number)
        if now is not None and now.state is round_.state:  # else its files may be deleted
            journal.log_failed_aggregation(round_, error)
            budget.faults.append(error)
    return False


class Held(Generic[Leased]):
    """A lease that this process holds, and the record that it stands in."""

    def __init__(self, context: Context, leased: Leased) -> None:
        self.context = context
        self.record: Leased = leased

    @property
    def lease(self) -> Lease:
        return _of(self.record)

    async def renew_if_old(self) -> None:
        """Renew the lease if half of its time is over. Raises LostLease."""
        left = self.lease.expires_at - self.context.clock()
        longest = length(self.context, self.lease.deaths)
        if not self.context.limits.lease_seconds / 2 < left <= longest:
            await self.renew()

    async def renew(self) -> None:
        """Begin the lease anew. Raises LostLease."""
        lease = _lease(self.context, self.lease.fence, deaths=0)
        await self.save(replace(self.record, lease=lease))

    async def release(self, **changes: Any) -> None:
        """Let the next call go on at once, after progress of this one. Raises LostLease."""
        now = self.context.clock()
        free = replace(self.lease, expires_at=now, released=True, deaths=0)
        await self.save(replace(self.record, lease=free, **changes))

    async def save(self, changed: Leased) -> None:
        """Store the record as the owner of its lease. Raises LostLease.

        Another process may have moved the lease's end, so owner and fence identify the lease.
        """
        while not await _save(self.context, changed):
            found = await self._stored()
            if found is None:
                raise LostLease
            changed = replace(changed, revision=found.revision)
        self.record = replace(changed, revision=changed.revision + 1)

    async def give_back(self) -> None:
        """Let the next call go on at once, because this process cannot. It counts as no death.

        If the store is away, the process tries again until the lease runs out.
        """
        try:
            await self._give_back()
        except StoreUnavailable:
            self.context.tasks.start(self._give_back_later())

    async def _give_back(self) -> None:
        while (found := await self._stored()) is not None:
            free = replace(_of(found), expires_at=self.context.clock(), released=True)
            if await _save(self.context, replace(found, lease=free)):
                number = found.round if isinstance(found, FullGroup) else found.number
                log_event("lease released unfinished", experiment=found.experiment_id, round=number)
                return

    async def _give_back_later(self) -> None:
        pause, waited = _RETRY_SECONDS, 0.0
        while waited < self.context.limits.lease_seconds and not self.context.tasks.ending:
            await asyncio.sleep(pause)
            waited, pause = waited + pause, 2 * pause
            try:
                await self._give_back()
            except StoreUnavailable:
                continue
            return

    async def _stored(self) -> Leased | None:
        """The record as it is stored now; None if another process has the lease."""
        found = await _load(self.context, self.record)
        if found is None:
            return None
        lease, ours = _of(found), self.lease
        mine = (lease.owner, lease.fence, lease.released) == (ours.owner, ours.fence, False)
        return found if mine else None


def _of(leased: Round | FullGroup) -> Lease:
    assert leased.lease is not None  # noqa: S101  (a round that is aggregated has one)
    return leased.lease


async def _load(context: Context, leased: Leased) -> Leased | None:
    if isinstance(leased, FullGroup):
        return await context.repo.sums.group(
            leased.experiment_id, leased.round, leased.attempt, leased.group
        )
    found = await context.repo.round(leased.experiment_id, leased.number)
    return found if found is not None and found.state is RoundState.AGGREGATING else None


async def _save(context: Context, leased: Round | FullGroup) -> bool:
    """Compare-and-set."""
    if isinstance(leased, FullGroup):
        return await context.repo.sums.save_group(leased)
    return await context.repo.save_round(leased)
