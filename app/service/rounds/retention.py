"""Which model versions stay, and the end of those that do not.

The newest `keep_models` versions stay, the initial one and the best ones. The write that announces
a model, or that tells of a better one, also says which versions are garbage by it; their bytes are
deleted after that, and then the list is emptied. So whoever dies in between leaves to the next call
what it has to do. Records and hashes stay.
"""

from __future__ import annotations

from dataclasses import replace

from app.service.context import Context
from app.service.records import keys
from app.telemetry.logs import log_event
from serverless_fl.domain.experiment import Best, Experiment
from serverless_fl.domain.round import Round


def announced(experiment: Experiment, round_: Round) -> Experiment:
    """The experiment, whose newest model is this round's, with what is garbage by that.

    The round's cohort has measured the model before it, on the examples that it holds out.
    """
    keep, newest = experiment.config.keep_models, experiment.model_version
    if keep is None or newest is None:
        return experiment
    accuracy = round_.metrics.get("accuracy_before")
    best = _better(experiment.best_held_out, round_.base_version, accuracy)
    first = max(experiment.models_from, newest - keep + 1)
    return _with_garbage(experiment, replace(experiment, models_from=first, best_held_out=best))


def measured(experiment: Experiment, version: int, accuracy: float | None) -> Experiment:
    """The experiment, of which the admin has measured a version: that may be the best one now."""
    if experiment.config.keep_models is None or not experiment.keeps(version):
        return experiment
    best = _better(experiment.best_central, version, accuracy)
    return _with_garbage(experiment, replace(experiment, best_central=best))


def _better(best: Best | None, version: int, accuracy: float | None) -> Best | None:
    """Of equal ones the first."""
    if accuracy is None or (best is not None and accuracy <= best.accuracy):
        return best
    return Best(version=version, accuracy=accuracy)


def _with_garbage(before: Experiment, after: Experiment) -> Experiment:
    turns = {*range(before.models_from, after.models_from), *before.best_models}
    gone = sorted(version for version in turns if not after.keeps(version))
    return replace(after, garbage=(*after.garbage, *gone))


async def drop_garbage(context: Context, experiment: Experiment, *, patient: bool = False) -> bool:
    """Delete the bytes of versions that are garbage; say whether all of them are gone now.

    A call that clients wait for leaves alone what is too much for it; ticks are `patient`.
    """
    most = None if patient else context.limits.drop_bytes
    for version in experiment.garbage:
        if not await drop_model(context, experiment.id, version, most=most):
            return False
    if await context.repo.save_experiment(replace(experiment, garbage=())):
        versions = list(experiment.garbage)
        log_event("models dropped", experiment=experiment.id, versions=versions)
    return True


async def drop_model(
    context: Context, experiment_id: str, version: int, *, most: int | None = None
) -> bool:
    """Delete a version's bytes and those of its copy, unless they are more than `most`; say so.

    A part at a time: a database may take a minute to delete gigabytes, and let nobody write
    meanwhile.
    """
    prefixes = [f"{of(experiment_id, version)}/" for of in (keys.model_blob, keys.compressed_blob)]
    return await drop_all(context, prefixes, most=most)


async def drop_all(context: Context, prefixes: list[str], *, most: int | None = None) -> bool:
    """The same of everything under these prefixes."""
    for prefix in prefixes:
        stored = await context.blobs.sizes(prefix)
        size = sum(stored.values())
        if most is not None and size > most:
            return False
        if size > context.limits.drop_bytes:
            for key in stored:
                await context.blobs.delete(key)
        await context.blobs.delete(prefix)  # what is not listed yet goes as well
    return True
