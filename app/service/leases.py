"""Leases of aggregations: taken, renewed, given back, and never further away than their length.

A clock may jump ahead for a moment (a virtual machine that wakes up, a wrong time server). A lease
or a deadline that is written just then lies far in the future. So whoever finds one that is further
away than its length moves it to where it would be if it began now.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from app.domain.errors import StoreUnavailable
from app.domain.round import Lease, Round, RoundState
from app.service import telling
from app.service.context import Context

_RETRY_SECONDS = 0.5  # then twice as long, and so on, until the lease would have run out


class LostLease(Exception):
    """Another process has taken the aggregation over; it goes on from what we stored."""


def length(context: Context, deaths: int = 0) -> float:
    """Of a lease, in seconds; longer after each owner that died.

    It is renewed between cells only. Were it always as short, a cell that takes longer than that
    would be taken over for ever, and no owner would ever come to its end.
    """
    return context.limits.lease_seconds * (1 + deaths)


def new_lease(context: Context, fence: int, deaths: int = 0) -> Lease:
    """A lease of this process, from now."""
    expiry = context.clock() + length(context, deaths)
    return Lease(owner=context.worker, expires_at=expiry, fence=fence, deaths=deaths)


async def is_free(context: Context, round_: Round) -> bool:
    """Whether the round's aggregation is anybody's to go on with."""
    lease, now = round_.lease, context.clock()
    assert lease is not None  # noqa: S101  (the move into this state sets it)
    # A lease that was let go of is free at once, also where this clock is behind its owner's.
    if lease.released or now >= lease.expires_at:
        return True
    latest = now + length(context, lease.deaths)
    if lease.expires_at > latest:
        shorter = replace(lease, expires_at=latest)
        await context.repo.save_round(round_.move(RoundState.AGGREGATING, lease=shorter))
    return False


class Held:
    """A round that this process aggregates, and its hold on it."""

    def __init__(self, context: Context, round_: Round) -> None:
        self.context = context
        self.round = round_

    async def renew_if_old(self) -> None:
        """Renew the lease if half of its time is over. Raises LostLease."""
        assert self.round.lease is not None  # noqa: S101  (whoever folds holds one)
        left = self.round.lease.expires_at - self.context.clock()
        longest = length(self.context, self.round.lease.deaths)
        if not self.context.limits.lease_seconds / 2 < left <= longest:
            await self.renew()

    async def renew(self) -> None:
        """Begin the lease anew. Raises LostLease."""
        assert self.round.lease is not None  # noqa: S101
        lease = new_lease(self.context, self.round.lease.fence)
        await self.save(self.round.move(RoundState.AGGREGATING, lease=lease))

    async def save(self, changed: Round) -> None:
        """Store the round as its owner. Raises LostLease.

        Another process may have moved the lease's end: its owner and fence say whose it is.
        """
        while not await self.context.repo.save_round(changed):
            found = await self._stored()
            if found is None:
                raise LostLease
            changed = replace(changed, revision=found.revision)
        self.round = replace(changed, revision=changed.revision + 1)

    async def give_back(self) -> None:
        """Let the next call go on at once: this process cannot. It is no death of an owner.

        If the store does not take it, it is tried again for as long as the lease would last.
        """
        try:
            await self._give_back()
        except StoreUnavailable:
            self.context.tasks.start(self._give_back_later())

    async def _give_back(self) -> None:
        while (found := await self._stored()) is not None:
            assert found.lease is not None  # noqa: S101
            free = replace(found.lease, expires_at=self.context.clock(), released=True)
            if await self.context.repo.save_round(found.move(RoundState.AGGREGATING, lease=free)):
                telling.of_round(found, "lease given back")
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

    async def _stored(self) -> Round | None:
        """The round as it is stored now; None if it is no longer ours."""
        found = await self.context.repo.round(self.round.experiment_id, self.round.number)
        if found is None or found.state is not RoundState.AGGREGATING:
            return None
        lease, ours = found.lease, self.round.lease
        assert lease is not None and ours is not None  # noqa: S101
        mine = (lease.owner, lease.fence, lease.released) == (ours.owner, ours.fence, False)
        return found if mine else None
