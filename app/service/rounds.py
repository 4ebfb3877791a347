"""The state machine: `advance` looks at what is stored and does the next missing step.

Uploads, polls and the scheduled tick all call it, and there is no other way forward. A step is one
insert-if-absent or one compare-and-set; whoever loses a race finds the winner's result when it
looks again. A process may die between any two lines here: the next call goes on from the store.
"""

from __future__ import annotations

from dataclasses import replace

from app.domain import draw
from app.domain.errors import StoreUnavailable
from app.domain.experiment import Experiment, ExperimentState
from app.domain.round import Attempt, Cut, Round, RoundState
from app.service import filling, sweep, telling
from app.service.aggregate import LostUpdate, aggregate, new_lease
from app.service.allowance import Allowance
from app.service.context import Context
from app.service.look import Look, thoroughly
from app.service.telling import COORDINATOR, missing
from app.telemetry import trace
from app.telemetry.logs import tell

MAX_DEATHS = 20  # of calls that aggregate one round


class Paused(Exception):
    """This call has done its share of an aggregation; another one goes on."""


class Rounds:
    """Opens, closes and repeats rounds."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.repo = context.repo

    async def advance(
        self, experiment_id: str, look: Look = thoroughly
    ) -> tuple[Experiment, Round | None]:
        """Do every step that `look` lets it find; give the state after it. Raises NotFound."""
        with trace.span("advance", experiment=experiment_id):
            return await self._advance(experiment_id, look)

    async def _advance(self, experiment_id: str, look: Look) -> tuple[Experiment, Round | None]:
        paused, allowance = False, Allowance(self.context)
        while True:
            experiment = await self.repo.experiment(experiment_id)
            round_ = None
            if experiment.round:
                round_ = await self.repo.round(experiment_id, experiment.round)
            found = not paused and await look(self.context, experiment, round_)
            if isinstance(found, filling.Filled):
                assert round_ is not None  # noqa: S101  (a look found a group of it full)
                await filling.fold_filled(self.context, experiment, round_, found.group, allowance)
                return experiment, round_
            if not found:
                return experiment, round_
            look = thoroughly  # one step may make room for the next
            try:
                if not await self._step(experiment, round_, allowance):
                    return experiment, round_
            except Paused:
                paused = True  # look once more, for what is returned

    async def _step(
        self, experiment: Experiment, round_: Round | None, allowance: Allowance
    ) -> bool:
        """Do the next step if there is one; say whether to look again."""
        match experiment.state:
            case ExperimentState.AWAITING_MODEL:
                return False
            case ExperimentState.ENROLLING:
                return await self._start(experiment)
            case ExperimentState.RUNNING:
                return await self._run(experiment, round_, allowance)
            case _:
                return await sweep.tidy(self.context, experiment, round_)

    async def _start(self, experiment: Experiment) -> bool:
        enrolled = await self.repo.count_clients(experiment.id)
        if enrolled < experiment.config.clients_to_start:
            return False
        if await self.repo.save_experiment(experiment.move(ExperimentState.RUNNING, round=1)):
            tell("experiment started", experiment=experiment.id, clients=enrolled)
        return True

    async def _run(
        self, experiment: Experiment, round_: Round | None, allowance: Allowance
    ) -> bool:
        if round_ is None:
            return await self._open(experiment)
        match round_.state:
            case RoundState.COLLECTING:
                return await self._collect(experiment, round_, allowance)
            case RoundState.SEALED:
                return await self._freeze(experiment, round_, allowance)
            case RoundState.AGGREGATING:
                return await self._take_over(experiment, round_, allowance)
            case _:
                return await self._conclude(experiment, round_)

    async def _open(self, experiment: Experiment) -> bool:
        config, number = experiment.config, experiment.round
        slots = await self._taking_part(experiment)
        now = self.context.clock()
        opened = Round(
            experiment_id=experiment.id,
            number=number,
            cohort=tuple(draw.cohort(config.seed, number, 1, slots, config.clients_per_round)),
            opened_at=now,
            deadline=now + config.deadline_seconds,
            cut=self._cut(),
        )
        if await self.repo.add_round(opened):
            telling.of_opening(opened)
        return True

    def _cut(self) -> Cut:
        limits = self.context.limits
        return Cut(span_bytes=limits.part_bytes, group_size=limits.fold_updates)

    async def _collect(self, experiment: Experiment, round_: Round, allowance: Allowance) -> bool:
        """Seal the round if it is due, or give it another attempt, or fail the experiment.

        Until it is due, fold what is full of it.
        """
        reported = await self.repo.reported_slots(experiment.id, round_.number)
        settled = set(round_.cohort) <= set(reported)
        refused: list[int] = []
        if not settled:
            refused = await self.repo.refused_slots(experiment.id, round_.number)
            settled = set(round_.cohort) <= {*reported, *refused, *experiment.revoked}
        revoked = round_.silent(experiment.revoked, {*reported, *refused})
        if not settled and self.context.clock() < round_.deadline:
            heard = {*reported, *refused, *experiment.revoked}
            await filling.fold_full(self.context, experiment, round_, heard, allowance)
            return False
        if len(reported) >= experiment.config.updates_to_close:
            if await self.repo.save_round(round_.move(RoundState.SEALED, revoked=revoked)):
                telling.of_seal(round_, len(reported))
        elif round_.attempt < experiment.config.max_attempts:
            await self._retry(experiment, round_, reported, refused)
        else:
            await self._fail(
                experiment,
                f"Round {round_.number} got {len(reported)} of the "
                f"{experiment.config.updates_to_close} updates that it needs, in "
                f"{round_.attempt} attempts. {missing(round_, reported, refused, revoked)}",
            )
        return True

    async def _retry(
        self, experiment: Experiment, round_: Round, reported: list[int], refused: list[int]
    ) -> None:
        config, now = experiment.config, self.context.clock()
        enrolled = await self._taking_part(experiment)
        cohort = draw.next_cohort(
            config.seed,
            round_.number,
            round_.attempt + 1,
            enrolled=[slot for slot in enrolled if slot not in refused],
            reported=reported,
            absent=round_.cohort,
            size=config.clients_per_round,
        )
        ended = Attempt(
            attempt=round_.attempt,
            cohort=round_.cohort,
            reported=tuple(reported),
            refused=tuple(refused),
            ended_at=now,
            revoked=round_.silent(experiment.revoked, {*reported, *refused}),
        )
        again = round_.move(
            RoundState.COLLECTING,
            attempt=round_.attempt + 1,
            cohort=tuple(cohort),
            deadline=now + config.deadline_seconds,
            earlier=(*round_.earlier, ended),
        )
        if await self.repo.save_round(again):
            telling.of_new_attempt(again, len(reported), config.updates_to_close)

    async def _taking_part(self, experiment: Experiment) -> list[int]:
        """The slots from which cohorts are drawn."""
        enrolled = await self.repo.enrolled_slots(experiment.id)
        revoked = set(experiment.revoked)
        return [slot for slot in enrolled if slot not in revoked]

    async def _freeze(self, experiment: Experiment, round_: Round, allowance: Allowance) -> bool:
        """List what came before the seal, and aggregate it ourselves if our list is the one."""
        accepted = await self.repo.reported_slots(experiment.id, round_.number)
        frozen = round_.move(
            RoundState.AGGREGATING,
            accepted=tuple(accepted),
            lease=new_lease(self.context, fence=1),
            cut=round_.cut or self._cut(),
        )
        if await self.repo.save_round(frozen):
            frozen = replace(frozen, revision=round_.revision + 1)
            await self._aggregate(experiment, frozen, allowance)
        return True

    async def _take_over(self, experiment: Experiment, round_: Round, allowance: Allowance) -> bool:
        """Go on with an aggregation that its owner has let go of, by word or by silence."""
        lease = round_.lease
        assert lease is not None  # noqa: S101  (the move into this state sets it)
        # A lease that was let go of is free at once, also where this clock is behind its owner's.
        if not lease.released and self.context.clock() < lease.expires_at:
            return False
        deaths = lease.deaths + (not lease.released)
        if deaths >= MAX_DEATHS:
            await self._fail(
                experiment,
                f"Round {round_.number} could not be aggregated: {deaths} calls began it and never "
                "came to an end. See the coordinator's log; it may need more memory or time.",
            )
            return True
        mine = round_.move(
            RoundState.AGGREGATING, lease=new_lease(self.context, lease.fence + 1, deaths)
        )
        if await self.repo.save_round(mine):
            telling.of_takeover(mine, lease, deaths)
            mine = replace(mine, revision=round_.revision + 1)
            await self._aggregate(experiment, mine, allowance)
        return True

    async def _aggregate(self, experiment: Experiment, round_: Round, allowance: Allowance) -> None:
        """One step of it. Raises Paused where there is more to do, but not in this call."""
        try:
            done = await aggregate(self.context, experiment, round_, allowance)
        except StoreUnavailable:
            raise
        except LostUpdate as error:
            # An owner that was too slow finds the uploads of a closed round gone, rightly so: they
            # are deleted after the close only, and so nothing is lost while it still aggregates.
            now = await self.repo.round(experiment.id, round_.number)
            if now is None or now.state is not RoundState.AGGREGATING:
                return
            await self._fail(experiment, f"Round {round_.number} lost an accepted update: {error}")
        except Exception as error:
            # The caller only asked for its status. The lease runs out, and another call tries.
            telling.of_failed_aggregation(round_, error)
            raise Paused from error
        else:
            if not done:
                raise Paused

    async def _conclude(self, experiment: Experiment, round_: Round) -> bool:
        """The round is closed: drop its uploads, then open the next one or complete."""
        await sweep.drop_uploads(self.context, experiment, round_.number)
        config = experiment.config
        changes = {"model_version": round_.number, "streak": _streak(experiment, round_)}
        if config.target_accuracy is not None and changes["streak"] >= config.patience:
            ended = experiment.move(
                ExperimentState.COMPLETED,
                reason=f"The target accuracy of {config.target_accuracy:.2%} was reached: "
                f"{round_.metrics['accuracy_before']:.2%} with model {round_.base_version}.",
                ended_at=self.context.clock(),
                ended_by=COORDINATOR,
                **changes,
            )
        elif round_.number >= config.rounds:
            ended = experiment.move(
                ExperimentState.COMPLETED,
                reason=f"All {config.rounds} rounds are closed.",
                ended_at=self.context.clock(),
                ended_by=COORDINATOR,
                **changes,
            )
        else:
            ended = experiment.move(ExperimentState.RUNNING, round=round_.number + 1, **changes)
        if await self.repo.save_experiment(ended) and ended.ended:
            telling.of_end(ended)
        return True

    async def _fail(self, experiment: Experiment, reason: str) -> None:
        failed = experiment.move(
            ExperimentState.FAILED,
            reason=reason.strip(),
            ended_at=self.context.clock(),
            ended_by=COORDINATOR,
        )
        if await self.repo.save_experiment(failed):
            telling.of_end(failed)


def _streak(experiment: Experiment, round_: Round) -> int:
    target = experiment.config.target_accuracy
    if target is None or round_.metrics.get("accuracy_before", -1.0) < target:
        return 0
    return experiment.streak + 1
