"""How much of a collecting round a call reads to find out whether it has a next step.

The keys of the cohort's updates say who has reported. If every poll and every upload read all of
them, each would cost more the larger the cohort is (docs/decisions/0015). So a tick checks all, a
poll checks a sample, and an upload checks what it may have completed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from app.service.context import Context
from app.service.records.keys import SLOT_DIGITS
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.round import PHASES, Round, RoundState
from serverless_fl.schedule import schedule_of


@dataclass(frozen=True)
class Progress:
    """What a check finds: a step that may be due, or else a group that can be summed.

    `step_due`: the state machine looks at the whole round. `full_group`: the number of a group of
    the cohort whose updates are all in, so that it can be summed before the round closes.
    """

    step_due: bool = False
    full_group: int | None = None


_WAITING = PHASES | {RoundState.COLLECTING}
COUNTED = 128  # keys of updates; a call counts so many on average at most
NOTHING, STEP_DUE = Progress(), Progress(step_due=True)
Check = Callable[[Context, Experiment, Round | None], Awaitable[Progress]]


async def check_all(context: Context, experiment: Experiment, round_: Round | None) -> Progress:
    """For ticks, for admins, and after a step: the state machine looks at everything."""
    return STEP_DUE


async def check_sample(context: Context, experiment: Experiment, round_: Round | None) -> Progress:
    """For polls: in a cohort of n, one poll in n checks everything.

    The upload that completes a cohort closes the round, so polls need not look. But its process may
    die before that. With this sample a poll reads one key on average, and once each client of the
    cohort has asked, about one of them has looked.
    """
    if round_ is None or not _waits_for_cohort(context, experiment, round_):
        return STEP_DUE
    return STEP_DUE if context.jitter() * len(round_.cohort) < 1 else NOTHING


def check_after(slot: int) -> Check:
    """For a call that has stored an update or a refusal of this slot.

    It reads the slot's neighbours first, and a wider block only if the block before is complete.
    Of the calls that complete a cohort, the last one sees what all of them wrote, and finds every
    block complete, whatever their order. So some call always closes the round, and in the same way
    some call always finds a full group.

    Where something is due at a number of updates, it counts them first.
    """

    async def check(context: Context, experiment: Experiment, round_: Round | None) -> Progress:
        if round_ is None or not _waits_for_cohort(context, experiment, round_):
            return STEP_DUE
        if await _has_counted_to(context, experiment, round_):
            return STEP_DUE
        if slot not in round_.cohort:
            return NOTHING
        repo, number, revoked = context.repo, round_.number, set(experiment.revoked)
        for leading, members in blocks(round_.cohort, slot):
            silent = {*members} - revoked
            silent -= {*await repo.reported_slots(round_, leading)}
            if silent:
                silent -= {*await repo.refused_slots(experiment.id, number, leading)}
            if silent:
                return await _check_group(context, experiment, round_, slot, members, silent)
        return STEP_DUE

    return check


async def _has_counted_to(context: Context, experiment: Experiment, round_: Round) -> bool:
    """Whether there are so many updates that something is due before the whole cohort reported.

    In a large cohort only a share of the calls counts: of those that come later, or of the polls,
    one finds it soon.
    """
    config = experiment.config
    number = schedule_of(config).counts_to(config, round_, context.clock())
    if number is None or context.jitter() * len(round_.cohort) >= COUNTED:
        return False
    return len(await context.repo.reported_slots(round_)) >= number


async def _check_group(
    context: Context,
    experiment: Experiment,
    round_: Round,
    slot: int,
    block: Sequence[int],
    silent: set[int],
) -> Progress:
    """Find out whether the slot's group is full; `silent` are the slots of `block` not heard of.

    The group's members outside the block are read only if all those inside have been heard of.
    That is so for the calls that complete a block of ten within a group: about nine a group.
    """
    group = round_.group_of(slot)
    members = round_.members(group)
    if not members or silent.intersection(members):
        return NOTHING
    unknown = {*members} - {*block, *experiment.revoked}
    if unknown:
        updates = await context.repo.updates_of(round_, sorted(unknown))
        unknown -= {update.slot for update in updates}
    for other in sorted(unknown):
        if await context.repo.refusal(experiment.id, round_.number, other) is None:
            return NOTHING
    return Progress(full_group=group)


def blocks(cohort: Sequence[int], slot: int) -> Iterator[tuple[str, Sequence[int]]]:
    """The blocks of an ascending cohort around a slot, each with the first digits of its keys.

    They are the ten, the hundred, the thousand ... slots around it, as far as each holds more of
    the cohort than the one before and not all of it. Only the calls that complete one of the ten
    smaller blocks read a block, so on average a level costs an upload ten keys at most.
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


def _waits_for_cohort(context: Context, experiment: Experiment, round_: Round) -> bool:
    """Whether only the rest of the cohort can move the round on: no call of the admin, no clock."""
    now = context.clock()
    latest = schedule_of(experiment.config).deadline(experiment.config, now)
    if round_ is not None and round_.state in PHASES:
        latest = now + experiment.config.phase_seconds
    return (
        experiment.state is ExperimentState.RUNNING
        and round_.state in _WAITING
        and now < round_.deadline <= latest
    )
