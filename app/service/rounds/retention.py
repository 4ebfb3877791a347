"""Which model versions an experiment keeps, and the deletion of the others.

It keeps the newest `keep_models` versions, the initial one and the best ones. The write that
records a new model, or a better one, also lists the versions that are garbage from then on. Their
bytes are deleted after that write, and then the list is emptied. So if a process dies in between,
the next call finds the list. Records and hashes of all versions stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from app.service.context import Context
from app.service.records import keys
from app.telemetry.logs import log_event
from serverless_fl.domain.experiment import Best, Experiment
from serverless_fl.domain.goal import Goal
from serverless_fl.domain.round import Round


def with_new_model(experiment: Experiment, round_: Round) -> Experiment:
    """The experiment with its best model, and the garbage that this round's new model makes.

    The round's cohort evaluated the model before the new one, on the examples that clients hold
    out.
    """
    keep, newest = experiment.config.keep_models, experiment.model_version
    if newest is None:
        return experiment
    goal = experiment.config.goal
    value = goal.in_update(round_.metrics)
    best = _better(goal, experiment.best_held_out, round_.base_version, value)
    if keep is None:  # all versions stay; the list of experiments shows the best one
        return replace(experiment, best_held_out=best)
    first = max(experiment.models_from, newest - keep + 1)
    return _with_garbage(experiment, replace(experiment, models_from=first, best_held_out=best))


def with_evaluation(
    experiment: Experiment, version: int, metrics: Mapping[str, float]
) -> Experiment:
    """The experiment after the admin's evaluation of a version, which may be the best one now."""
    if experiment.config.keep_models is None or not experiment.keeps(version):
        return experiment
    goal = experiment.config.goal
    best = _better(goal, experiment.best_central, version, goal.in_evaluation(metrics))
    return _with_garbage(experiment, replace(experiment, best_central=best))


def _better(goal: Goal, best: Best | None, version: int, value: float | None) -> Best | None:
    """The better one of the best and this version; of equal ones the first."""
    if value is None or (best is not None and not goal.is_better(value, best.value)):
        return best
    return Best(version=version, value=value)


def _with_garbage(before: Experiment, after: Experiment) -> Experiment:
    turns = {*range(before.models_from, after.models_from), *before.best_models}
    gone = sorted(version for version in turns if not after.keeps(version))
    return replace(after, garbage=(*after.garbage, *gone))


async def delete_garbage(
    context: Context, experiment: Experiment, *, patient: bool = False
) -> bool:
    """Delete the bytes of versions that are garbage; say whether all are deleted.

    A call that clients wait for stops at a version that is too large for it; a tick, which is
    `patient`, does not.
    """
    most = None if patient else context.limits.drop_bytes
    for version in experiment.garbage:
        if not await delete_model(context, experiment.id, version, most=most):
            return False
    if await context.repo.save_experiment(replace(experiment, garbage=())):
        versions = list(experiment.garbage)
        log_event("models deleted", experiment=experiment.id, versions=versions)
    return True


async def delete_model(
    context: Context, experiment_id: str, version: int, *, most: int | None = None
) -> bool:
    """Delete a version's model and compressed model; say whether that was done.

    It is not done where one of them has more than `most` bytes.
    """
    prefixes = [f"{of(experiment_id, version)}/" for of in (keys.model_blob, keys.compressed_blob)]
    return await delete_all(context, prefixes, most=most)


async def delete_all(context: Context, prefixes: list[str], *, most: int | None = None) -> bool:
    """Delete all files under these prefixes, as `delete_model`.

    Large ones are deleted part by part: a database may take a minute to delete gigabytes at once,
    and refuse all writes meanwhile.
    """
    for prefix in prefixes:
        stored = await context.blobs.sizes(prefix)
        size = sum(stored.values())
        if most is not None and size > most:
            return False
        if size > context.limits.drop_bytes:
            for key in stored:
                await context.blobs.delete(key)
        await context.blobs.delete(prefix)  # with files that the listing does not show yet
    return True
