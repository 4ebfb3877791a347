"""How closely a call looks at a round that collects: no closer than it has reason to.

Who has reported is read from the keys of the cohort's updates. If every poll and every upload read
all of them, each would cost the more the larger the cohort is (docs/decisions/0015).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence

from app.service.aggregation.filling import Filled
from app.service.context import Context
from app.service.records.keys import SLOT_DIGITS
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.round import Round, RoundState

Look = Callable[[Context, Experiment, Round | None], Awaitable[bool | Filled]]
"""Whether there may be a step to do, or if not that, whether a group of the cohort is full."""


async def thoroughly(context: Context, experiment: Experiment, round_: Round | None) -> bool:
    """Whatever can be done is to be found now: for ticks, for the admin, after a step."""
    return True


async def in_passing(context: Context, experiment: Experiment, round_: Round | None) -> bool:
    """For polls, which settle nothing themselves: whoever does looks for itself.

    It may die before it has looked. So one poll in as many as the cohort has members looks
    thoroughly all the same: a key a poll on average, and about one look while each of them asks
    once.
    """
    if round_ is None or not _waiting(context, experiment, round_):
        return True
    return context.jitter() * len(round_.cohort) < 1


def around(slot: int) -> Look:
    """For a call that has just settled this slot. It looks at the slot's neighbours first, and
    only where none of them is waited for any more at all the others.

    Of the calls that settle a cohort, the last one sees what all of them wrote and finds every
    block complete, whatever their order: so there is always one that closes the round. In the same
    way there is always one that finds a group of the cohort full.
    """

    async def look(context: Context, experiment: Experiment, round_: Round | None) -> bool | Filled:
        if round_ is None or not _waiting(context, experiment, round_):
            return True
        if slot not in round_.cohort:
            return False
        repo, number, revoked = context.repo, round_.number, set(experiment.revoked)
        for leading, members in blocks(round_.cohort, slot):
            silent = {*members} - revoked
            silent -= {*await repo.reported_slots(experiment.id, number, leading)}
            if silent:
                silent -= {*await repo.refused_slots(experiment.id, number, leading)}
            if silent:
                return await _filled(context, experiment, round_, slot, members, silent)
        return True

    return look


async def _filled(
    context: Context,
    experiment: Experiment,
    round_: Round,
    slot: int,
    looked_at: Sequence[int],
    silent: set[int],
) -> bool | Filled:
    """The group of a slot, if it is full; false where it is not. `silent` are known not to be in.

    Its members outside the block that was looked at are looked for only where none inside is
    silent: the calls that complete one of the blocks of ten in a group do so, about nine of them.
    """
    group = round_.group_of(slot)
    members = round_.members(group)
    if not members or silent.intersection(members):
        return False
    unknown = {*members} - {*looked_at, *experiment.revoked}
    if unknown:
        updates = await context.repo.updates_of(experiment.id, round_.number, sorted(unknown))
        unknown -= {update.slot for update in updates}
    for other in sorted(unknown):
        if await context.repo.refusal(experiment.id, round_.number, other) is None:
            return False
    return Filled(group)


def blocks(cohort: Sequence[int], slot: int) -> Iterator[tuple[str, Sequence[int]]]:
    """The parts of an ascending cohort around a slot, each with what its members' keys start with.

    They lie in the ten, the hundred, the thousand ... slots around it. Each that is given holds
    more of the cohort than the one before, and none holds all of it. A block is read by the calls
    that complete one of the ten below, so on average a level costs an upload ten keys at most.
    """
    known = 1  # the slot itself
    for digits in range(SLOT_DIGITS - 1, 0, -1):
        width = 10 ** (SLOT_DIGITS - digits)
        low = slot // width * width
        members = cohort[bisect_left(cohort, low) : bisect_left(cohort, low + width)]
        if len(members) == len(cohort):
            return
        if len(members) > known:
            yield f"{slot:0{SLOT_DIGITS}d}"[:digits], members
        known = len(members)


def _waiting(context: Context, experiment: Experiment, round_: Round) -> bool:
    """Whether only the rest of the cohort could move the round on, not this call or the clock."""
    now, longest = context.clock(), experiment.config.deadline_seconds
    return (
        experiment.state is ExperimentState.RUNNING
        and round_.state is RoundState.COLLECTING
        and now < round_.deadline <= now + longest
    )
