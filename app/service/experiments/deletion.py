"""An experiment is deleted: first for everybody, in one write, and then from the store.

That write makes a tombstone of its record, which says nothing of what it was: from then on there is
no such experiment, for nobody's call. What was in the store is garbage by that. The same call
deletes it as far as it may, and ticks do the rest, whoever died; they go on until no call that
began before the deletion can still be writing. The tombstone stays: a late upload by a presigned
URL is known by it to be garbage, and a repeated creation with the same Idempotency-Key is told.
"""

from __future__ import annotations

from dataclasses import replace

from app.service.context import Context
from app.service.experiments.lifecycle import Experiments
from app.service.records import keys
from app.service.rounds.cleanup import GRACE_LEASES, try_deletion
from app.service.rounds.retention import delete_all
from app.telemetry.logs import log_event
from serverless_fl.domain.errors import NotFound
from serverless_fl.domain.experiment import Experiment


class Deletion:
    """What the admin does at the very end."""

    def __init__(self, context: Context, experiments: Experiments) -> None:
        self.context = context
        self.repo = context.repo
        self.experiments = experiments

    async def delete(self, experiment_id: str, by: str, *, stop: bool = False) -> None:
        """Delete an experiment that has ended, or `stop` it first. Safe to repeat.

        Raises NotFound, and Conflict where it has not ended.
        """
        while (found := await self.repo.tombstone(experiment_id)) is None:
            await self._bury(experiment_id, by, stop)
        work = erase(self.context, found, most=self.context.limits.drop_bytes)
        await try_deletion(experiment_id, work)

    async def _bury(self, experiment_id: str, by: str, stop: bool) -> None:
        """Try to be the one whose write deletes it. Raises NotFound, Conflict."""
        try:
            if stop:
                await self.experiments.stop(experiment_id, "Stopped to be deleted.", by)
            experiment = await self.repo.experiment(experiment_id)
        except NotFound:
            if await self.repo.tombstone(experiment_id) is None:
                raise
            return  # somebody else was faster
        buried = experiment.tombstone(self.context.clock(), by)
        if await self.repo.save_experiment(buried):
            log_event("experiment deleted", experiment=experiment_id, by=by)


async def erase(context: Context, tombstone: Experiment, *, most: int | None = None) -> None:
    """Delete what is left of a deleted experiment, in so far as it is not more than `most` bytes.

    Once nobody can be writing to it any more, the tombstone says that nothing is left.
    """
    if tombstone.swept:
        return
    settled = context.clock() > (tombstone.deleted_at or 0) + _grace(context)
    await context.repo.erase(tombstone.id)
    done = await delete_all(context, keys.all_blobs(tombstone.id), most=most)
    if settled and done:
        await context.repo.save_experiment(replace(tombstone, swept=True))


def _grace(context: Context) -> float:
    return GRACE_LEASES * context.limits.lease_seconds
