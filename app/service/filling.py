"""Groups of a cohort are folded as they fill, long before the round closes.

A group is full when each of its slots has an update, or none is to be expected of it. Whoever fills
it folds it; what that call does not come to, or dies over, is left to the next call that looks at
the whole round, and in the end to the close. Sums are named by the digest of what is in them, so
those of a group whose updates turned out to be others are not what the close looks for: a client
that was refused may come back with a better update.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace

from app.domain.errors import StoreUnavailable
from app.domain.experiment import Experiment
from app.domain.round import Claim, Round, RoundState
from app.service import telling
from app.service.aggregate import measured
from app.service.allowance import Allowance
from app.service.context import Context


@dataclass(frozen=True)
class Filled:
    """What a look may find: this group of the cohort is full, and nothing else is due."""

    group: int


async def fold_full(
    context: Context,
    experiment: Experiment,
    round_: Round,
    settled: set[int],
    allowance: Allowance,
) -> None:
    """Fold what is left of all groups whose slots are settled, as far as the call may."""
    groups = range(round_.group_count)
    full = [number for number in groups if settled.issuperset(round_.members(number))]
    claims = await context.repo.claims(round_) if full else {}
    for number in full:
        if not await _fold(context, experiment, round_, number, claims.get(number), allowance):
            return


async def fold_filled(
    context: Context, experiment: Experiment, round_: Round, number: int, allowance: Allowance
) -> None:
    """Fold a group that is full, as far as the call may."""
    claim = await context.repo.claim(round_, number)
    await _fold(context, experiment, round_, number, claim, allowance)


async def _fold(
    context: Context,
    experiment: Experiment,
    round_: Round,
    number: int,
    claim: Claim | None,
    allowance: Allowance,
) -> bool:
    """Unless others do or did; says whether the call may do more. Nothing that goes wrong here is
    the caller's fault: the close does it again, and it counts.
    """
    if allowance.spent:
        return False
    work = _fold_claimed(context, experiment, round_, number, claim, allowance)
    return await context.tasks.finish(work)  # a caller that goes away leaves no claim behind


async def _fold_claimed(
    context: Context,
    experiment: Experiment,
    round_: Round,
    number: int,
    claim: Claim | None,
    allowance: Allowance,
) -> bool:
    """As `_fold`, in a task of its own."""
    mine = await _claimed(context, round_, number, claim)
    if mine is None:
        return True
    started = context.monotonic()
    try:
        done = await _folded(context, experiment, round_, number, allowance)
    except asyncio.CancelledError:
        await _let_go(context, mine)
        raise
    except StoreUnavailable as error:
        telling.of_waiting(round_, error)
        allowance.faults.append(error)
        await _let_go(context, mine)
        return False
    except Exception as error:
        found = await context.repo.round(experiment.id, round_.number)
        if found is not None and found.state is RoundState.COLLECTING:  # else uploads may be gone
            telling.of_failed_aggregation(round_, error)
            allowance.faults.append(error)
        return False  # the claim stands until it runs out: not every call shall try again
    seconds = mine.seconds + context.monotonic() - started
    ended = replace(mine, done=done, expires_at=context.clock(), seconds=seconds)
    await context.repo.save_claim(ended)
    return done


async def _let_go(context: Context, mine: Claim) -> None:
    """Leave the group to whoever comes next."""
    with suppress(StoreUnavailable):  # then it does so when the claim has run out
        await context.repo.save_claim(replace(mine, expires_at=context.clock()))


async def _claimed(
    context: Context, round_: Round, number: int, found: Claim | None
) -> Claim | None:
    """Our claim to a group; None where it is another call's, or nothing of it is left.

    Two calls that fold the same would store the same. Claims only spare the second one the work.
    """
    now, expiry = context.clock(), context.clock() + context.limits.lease_seconds
    if found is None:
        claim = Claim(
            experiment_id=round_.experiment_id,
            round=round_.number,
            attempt=round_.attempt,
            group=number,
            expires_at=expiry,
        )
        return replace(claim, revision=1) if await context.repo.add_claim(claim) else None
    if found.done:
        return None
    if now < found.expires_at:
        if found.expires_at > expiry:  # a clock had jumped ahead, see `app.service.leases`
            await context.repo.save_claim(replace(found, expires_at=expiry))
        return None
    claim = replace(found, expires_at=expiry)
    if not await context.repo.save_claim(claim):
        return None
    return replace(claim, revision=found.revision + 1)


async def _folded(
    context: Context, experiment: Experiment, round_: Round, number: int, allowance: Allowance
) -> bool:
    """Say whether nothing of the group is left to fold."""
    # Imported here: it brings NumPy, which a process that only answers polls never needs.
    from app.service.fold import Fold

    repo = context.repo
    updates = await repo.updates_of(experiment.id, round_.number, round_.members(number))
    if not updates:
        return True
    layout = await repo.layout(experiment.id)
    base = await repo.model(experiment.id, round_.base_version)
    assert base is not None  # noqa: S101  (the round before was closed with it)
    fold = Fold(context, experiment, round_, updates, layout, base)
    with measured(fold):
        async for work in fold.sums():
            if not allowance.take(work.reads):
                return False
            await work.do()
    return True
