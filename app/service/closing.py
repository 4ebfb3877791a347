"""A sealed round until it is closed: its list is frozen, and calls take turns to fold it."""

from __future__ import annotations

from dataclasses import replace

from app.domain.errors import StoreUnavailable
from app.domain.experiment import Experiment, ExperimentState
from app.domain.round import Cut, Lease, Round, RoundState
from app.service import telling
from app.service.aggregate import LostUpdate, aggregate
from app.service.allowance import Allowance
from app.service.context import Context, Limits
from app.service.leases import is_free, new_lease
from app.service.telling import COORDINATOR

MAX_DEATHS = 20  # of calls that aggregate one round


class Paused(Exception):
    """This call has done its share of an aggregation; another one goes on."""


def cut(limits: Limits) -> Cut:
    """How a round is cut that is opened under these limits."""
    return Cut(span_bytes=limits.part_bytes, group_size=limits.fold_updates)


async def fail(context: Context, experiment: Experiment, reason: str) -> None:
    """End an experiment that cannot go on."""
    failed = experiment.move(
        ExperimentState.FAILED,
        reason=reason.strip(),
        ended_at=context.clock(),
        ended_by=COORDINATOR,
    )
    if await context.repo.save_experiment(failed):
        telling.of_end(failed)


async def blobs_fault(context: Context) -> StoreUnavailable | None:
    """Why clients cannot bring or fetch weights now, if so.

    Nothing ends for good while that is so: it is no fault of any client or call.
    """
    try:
        # The right store of weights knows that this is absent; another one says so instead.
        await context.blobs.get("-")
    except StoreUnavailable as error:
        return error
    return None


class Closing:
    """The steps between the seal and the close; each says whether to look again."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.repo = context.repo

    async def freeze(self, experiment: Experiment, round_: Round, allowance: Allowance) -> bool:
        """List what came before the seal, and aggregate it ourselves if our list is the one."""
        accepted = await self.repo.reported_slots(experiment.id, round_.number)
        frozen = round_.move(
            RoundState.AGGREGATING,
            accepted=tuple(accepted),
            lease=new_lease(self.context, fence=1),
            cut=round_.cut or cut(self.context.limits),
        )
        await self.context.tasks.finish(self._aggregate(experiment, frozen, allowance))
        return True

    async def take_over(self, experiment: Experiment, round_: Round, allowance: Allowance) -> bool:
        """Go on with an aggregation that its owner has let go of, by word or by silence."""
        lease = round_.lease
        assert lease is not None  # noqa: S101  (the move into this state sets it)
        if allowance.spent or not await is_free(self.context, round_):
            return False
        deaths = lease.deaths + (not lease.released)
        if deaths >= MAX_DEATHS:
            if (fault := await blobs_fault(self.context)) is not None:
                allowance.faults.append(fault)
                return False
            await fail(
                self.context,
                experiment,
                f"Round {round_.number} could not be aggregated: {deaths} calls began it and never "
                "came to an end. See the coordinator's log; it may need more memory or time.",
            )
            return True
        mine = round_.move(
            RoundState.AGGREGATING, lease=new_lease(self.context, lease.fence + 1, deaths)
        )
        await self.context.tasks.finish(self._aggregate(experiment, mine, allowance, lease))
        return True

    async def _aggregate(
        self,
        experiment: Experiment,
        mine: Round,
        allowance: Allowance,
        before: Lease | None = None,
    ) -> None:
        """Take the round's lease, in place of the one before, and do one step under it.

        Runs in a task of its own (`app.service.tasks`), from before the lease is taken: else a
        caller that is cancelled just then would leave it with nobody. Raises Paused where there is
        more to do, but not in this call.
        """
        if not await self.repo.save_round(mine):
            return
        mine = replace(mine, revision=mine.revision + 1)
        if before is not None:
            telling.of_takeover(mine, before)
        try:
            done = await aggregate(self.context, experiment, mine, allowance)
        except LostUpdate as error:
            # An owner that was too slow finds the uploads of a closed round gone, rightly so: they
            # are deleted after the close only, and so nothing is lost while it still aggregates.
            now = await self.repo.round(experiment.id, mine.number)
            if now is None or now.state is not RoundState.AGGREGATING:
                return
            await fail(
                self.context, experiment, f"Round {mine.number} lost an accepted update: {error}"
            )
        except StoreUnavailable as error:
            # The lease was given back; whoever asks next tries again, however long that lasts.
            telling.of_waiting(mine, error)
            allowance.faults.append(error)
            raise Paused from error
        except Exception as error:
            # The caller only asked for its status. The lease runs out, and another call tries.
            telling.of_failed_aggregation(mine, error)
            allowance.faults.append(error)
            raise Paused from error
        else:
            if not done:
                raise Paused
