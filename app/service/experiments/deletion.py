"""Deletes an experiment: first for every caller, in one write, and then from the store.

The admin does so, or a tick when the days are over for which an ended experiment stays.

That write turns the experiment's record into a tombstone, which says nothing about the experiment.
From then on no call finds it, and everything that the store holds of it is garbage. The same call
deletes as much of that as one call may, and ticks delete the rest, also after a crash. Ticks repeat
this until no call that began before the deletion can still be writing. The tombstone stays: it
shows that a late upload by a presigned URL is garbage, and it lets a repeated creation with the
same Idempotency-Key be refused.
"""

from __future__ import annotations

from dataclasses import replace

from app.service.context import Context
from app.service.experiments.lifecycle import Experiments
from app.service.journal import COORDINATOR
from app.service.records import keys
from app.service.rounds.cleanup import GRACE_LEASES, try_deletion
from app.service.rounds.retention import delete_all
from app.telemetry.logs import log_event
from serverless_fl.domain.errors import NotFound
from serverless_fl.domain.experiment import Experiment


class Deletion:
    """Deletes experiments for admins and owners."""

    def __init__(self, context: Context, experiments: Experiments) -> None:
        self.context = context
        self.repo = context.repo
        self.experiments = experiments

    async def delete(self, experiment_id: str, by: str, *, stop: bool = False) -> None:
        """Delete an experiment that has ended; with `stop`, end it first. Safe to repeat.

        Raises NotFound, and Conflict if it has not ended.
        """
        while (found := await self.repo.tombstone(experiment_id)) is None:
            await self._bury(experiment_id, by, stop)
        work = erase(self.context, found, most=self.context.limits.drop_bytes)
        await try_deletion(experiment_id, work)

    async def was_by(self, experiment_id: str, name: str) -> bool:
        """Say whether this person has deleted the experiment."""
        found = await self.repo.tombstone(experiment_id)
        return found is not None and found.deleted_by == name

    async def expire(self, experiment_id: str) -> None:
        """Delete an experiment whose days are over; the ticks after this one empty the store.

        Nothing happens to one that the admin keeps longer meanwhile. Raises NotFound.
        """
        experiment, now = await self.repo.experiment(experiment_id), self.context.clock()
        if experiment.expires_at is not None and experiment.expires_at <= now:
            buried = experiment.tombstone(now, COORDINATOR)
            if await self.repo.save_experiment(buried):
                log_event("experiment expired", experiment=experiment_id)

    async def _bury(self, experiment_id: str, by: str, stop: bool) -> None:
        """Try to write the tombstone; another call may be faster. Raises NotFound, Conflict."""
        try:
            if stop:
                await self.experiments.stop(experiment_id, "Stopped to be deleted.", by)
            experiment = await self.repo.experiment(experiment_id)
        except NotFound:
            if await self.repo.tombstone(experiment_id) is None:
                raise
            return  # another call was faster
        buried = experiment.tombstone(self.context.clock(), by)
        if await self.repo.save_experiment(buried):
            log_event("experiment deleted", experiment=experiment_id, by=by)


async def erase(context: Context, tombstone: Experiment, *, most: int | None = None) -> None:
    """Delete what is left of a deleted experiment, up to the first prefix beyond `most` bytes.

    When no call can be writing to it any more and nothing is left, the tombstone is marked `swept`.
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
