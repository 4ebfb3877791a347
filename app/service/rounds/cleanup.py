"""Deletes files that nobody needs any more.

The close of a round deletes its uploads. Some files come too late for that: a client may store a
part at the moment of the close, or by a presigned URL after it, and may never commit the initial
weights that it began to upload. Ticks delete those. Any process may call these functions at any
time, and call them again.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from app.service import journal
from app.service.context import Context
from app.service.cost.metering import Metering
from app.service.files import announcements
from app.service.records import keys
from app.service.rounds.retention import delete_all, delete_model, with_new_model
from app.telemetry.logs import WARNING, log_event
from serverless_fl.domain.errors import StoreUnavailable
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.records import Blob
from serverless_fl.domain.round import Round, RoundState

_URL_GRACE = 600.0  # seconds; an upload by a URL may go on for so long after the URL's end
GRACE_LEASES = 20  # leases; a stale owner may write for so long after the end of an experiment


async def delete_uploads(context: Context, experiment: Experiment, closed: int) -> None:
    """Delete the uploads that the experiment does not keep, now that round `closed` is closed.

    If the store does not delete them, or they are too many for a call that clients wait for, ticks
    do so later, and the caller need not wait.
    """
    most = context.limits.drop_bytes
    await announcements.forget_round(context.repo.documents, experiment.id, closed)
    doomed = [keys.round_sums(experiment.id, closed)]
    if experiment.config.secure:
        await context.repo.forget_phases(experiment.id, closed, boxes=True)
        if (expired := closed - experiment.config.keep_updates) > 0:
            await context.repo.forget_phases(experiment.id, expired)
    if (expired := closed - experiment.config.keep_updates) > 0:
        doomed.append(keys.round_blobs(experiment.id, expired))
    for prefix in doomed:
        await try_deletion(experiment.id, delete_all(context, [prefix], most=most))


async def try_deletion(experiment_id: str, deletion: Awaitable[object]) -> bool:
    """Run a deletion that ticks can do later, too; say whether it is complete.

    The caller need not wait for a store that fails. A deletion returns False if it is incomplete.
    """
    try:
        return await deletion is not False
    except StoreUnavailable as error:
        log_event("not deleted", WARNING, experiment=experiment_id, cause=error.message)
        return False


async def delete_late_uploads(
    context: Context, experiment_id: str, number: int, stored: dict[str, int], until: float
) -> bool:
    """Delete a closed round's uploads, `stored` by key and size, until time is up.

    Returns whether it deleted any. Uploads that the experiment keeps stay, and so do those of an
    experiment that this database does not know: a bucket may serve several databases.
    """
    if await context.repo.tombstone(experiment_id) is not None:  # they came by an old URL
        await context.blobs.delete(keys.round_blobs(experiment_id, number))
        return True
    round_ = await context.repo.round(experiment_id, number)
    if round_ is None or round_.state not in (RoundState.CLOSED, RoundState.ABANDONED):
        return False
    experiment = await context.repo.experiment(experiment_id)
    kept = number > (experiment.model_version or 0) - experiment.config.keep_updates
    prefix = keys.round_blobs(experiment_id, number)
    if kept and round_.state is not RoundState.ABANDONED:
        return await _delete_strays(context, round_, stored)
    prefixes = sorted({f"{key.rpartition('/')[0]}/" for key in stored})
    few = sum(stored.values()) <= context.limits.drop_bytes
    for doomed in [prefix] if stored and few else prefixes:
        await context.blobs.delete(doomed)
        if context.monotonic() >= until:
            break
    if stored:
        journal.log_round(round_, "late uploads deleted")
    return bool(stored)


async def _delete_strays(context: Context, round_: Round, stored: dict[str, int]) -> bool:
    """Delete the files beside a closed round's accepted updates, which the experiment keeps.

    They are sums of a call that summed a group while another call closed the round, and files that
    clients never committed, or sent by a URL after the close.
    """
    sums = keys.round_sums(round_.experiment_id, round_.number)
    strays = {key for key in stored if key.startswith(sums)}
    others = {key: size for key, size in stored.items() if key not in strays}
    if sum(others.values()) != round_.update_bytes:  # they are more than the accepted ones
        accepted = [update.blob for update in await context.repo.accepted_updates(round_)]
        strays |= others.keys() - {
            blob.key(number) for blob in accepted for number in range(len(blob.parts))
        }
    for key in sorted(strays):
        await context.blobs.delete(key)
    if strays:
        journal.log_round(round_, "late uploads deleted")
    return bool(strays)


async def delete_late_initial(context: Context, experiment_id: str, until: float) -> None:
    """Delete what came by a URL beside an experiment's initial weights. URLs are good `until`."""
    documents, now = context.repo.documents, context.clock()
    if (model := await context.repo.model(experiment_id, 0)) is not None:
        await delete_other_parts(context, model.blob)
    elif await context.repo.tombstone(experiment_id) is None:
        experiment = await context.repo.experiment(experiment_id)
        if not experiment.ended:
            return  # the admin may still commit them
        await delete_model(context, experiment_id, 0)
    if now > until + _URL_GRACE:
        await announcements.forget_initial(documents, experiment_id)


async def clean_up_ended(context: Context, experiment: Experiment, round_: Round | None) -> bool:
    """Settle the last round of an ended experiment, and delete what is left of it.

    Returns whether it changed a record, so that the caller looks again.
    """
    if round_ is None:
        if experiment.model_version is None:
            await try_deletion(experiment.id, delete_model(context, experiment.id, 0))
        return False
    if round_.state is RoundState.ABANDONED:
        if not round_.swept:
            dropped = await try_deletion(experiment.id, _delete_abandoned(context, round_))
            if dropped and _settled(context, experiment):
                await context.repo.save_round(round_.move(RoundState.ABANDONED, swept=True))
        return False
    if round_.state is not RoundState.CLOSED:
        # Until this write an owner may still close the round, and then its model counts.
        if await context.repo.save_round(round_.move(RoundState.ABANDONED)):
            journal.log_round(round_, "round abandoned")
    elif experiment.model_version == round_.number:
        return False
    else:  # the experiment was stopped after the close, before it took the new model
        await delete_uploads(context, experiment, round_.number)
        changed = await Metering(context).closed(experiment, round_)
        changed = replace(changed, model_version=round_.number)
        await context.repo.save_experiment(with_new_model(changed, round_))
    return True


async def _delete_abandoned(context: Context, round_: Round) -> None:
    blobs = keys.round_blobs(round_.experiment_id, round_.number)
    await delete_all(context, [blobs], most=context.limits.drop_bytes)
    await delete_model(context, round_.experiment_id, round_.number)


def _settled(context: Context, experiment: Experiment) -> bool:
    """Whether no stale owner can write any more to the ended experiment."""
    return (
        context.clock() > (experiment.ended_at or 0) + GRACE_LEASES * context.limits.lease_seconds
    )


def recently_ended(context: Context, experiment: Experiment) -> bool:
    """Whether the experiment ended, and ticks may still have to delete files of it."""
    grace = 2 * GRACE_LEASES * context.limits.lease_seconds
    return experiment.ended and context.clock() < (experiment.ended_at or 0) + grace


async def delete_other_parts(context: Context, blob: Blob) -> None:
    """Delete uploaded parts that are no part of the committed file."""
    own = {blob.key(number) for number in range(len(blob.parts))}
    for key in await context.blobs.sizes(f"{blob.prefix}/"):
        if key not in own:
            await context.blobs.delete(key)


async def rounds_with_uploads(context: Context) -> list[tuple[str, int, dict[str, int]]]:
    """The rounds that have uploads: experiment, round, and the sizes by key.

    The list begins at a random one, so that a round whose deletion fails and takes long is not
    always the first.
    """
    found: dict[tuple[str, int], dict[str, int]] = {}
    for key, size in (await context.blobs.sizes("uploads/")).items():
        if place := keys.round_of(key):
            found.setdefault(place, {})[key] = size
    listed = [(*place, stored) for place, stored in sorted(found.items())]
    first = int(context.jitter() * len(listed))
    return listed[first:] + listed[:first]


def weights_overdue(context: Context, experiment: Experiment) -> bool:
    """Whether the experiment has waited too long for its initial weights."""
    age = context.clock() - experiment.created_at
    awaited = experiment.state is ExperimentState.AWAITING_MODEL
    return awaited and age > context.limits.abandon_days * 86400
