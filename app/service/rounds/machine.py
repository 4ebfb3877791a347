"""The state machine: `advance` looks at what is stored and does the next missing step.

Uploads, polls and the scheduled tick all call it, and there is no other way forward. A step is one
insert-if-absent or one compare-and-set; a call that loses a race looks again, and finds what the
winner has stored. A process may die between any two lines: the next call goes on from the store.
"""

from __future__ import annotations

from dataclasses import replace

from app.service import journal
from app.service.aggregation.leases import Held
from app.service.aggregation.plan import full_groups
from app.service.call_budget import CallBudget
from app.service.context import Context
from app.service.cost.epsilon import over_epsilon
from app.service.cost.metering import Metering
from app.service.data.normalisation import fix_normalisation
from app.service.journal import COORDINATOR
from app.service.rounds import cleanup
from app.service.rounds.closing import Closing, OutOfBudget, blobs_fault, cut_of, fail
from app.service.rounds.history import known_clients
from app.service.rounds.progress import Check, check_all
from app.service.rounds.retention import delete_garbage, with_new_model
from app.service.secure.phases import Outcome, Phases
from app.telemetry.logs import WARNING, log_event
from serverless_fl import tracing
from serverless_fl.domain.errors import HelperRefused, HelperUnavailable
from serverless_fl.domain.experiment import Config, Experiment, ExperimentState
from serverless_fl.domain.ledger import LedgerEntry
from serverless_fl.domain.records import Update, client_id
from serverless_fl.domain.round import PHASES, Attempt, FullGroup, Round, RoundState
from serverless_fl.domain.stopping import Verdict, decide, target_text
from serverless_fl.privacy import mechanism_of
from serverless_fl.schedule import Due, Heard, Invitation, schedule_of
from serverless_fl.schedule.selection import Reads

ASK_AGAIN_SECONDS = 30.0  # after which a helper that has not answered is asked again


class Rounds:
    """Opens, closes and repeats rounds."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.repo = context.repo
        self.metering = Metering(context)
        self.closing = Closing(context, self._begin_again)
        self.phases = Phases(context)

    async def advance(
        self, experiment_id: str, check: Check = check_all, budget: CallBudget | None = None
    ) -> tuple[Experiment, Round | None]:
        """Do every step that `check` finds; return the state after it. Raises NotFound.

        Aggregations spend `budget`; without one the call gets a budget of its own.
        """
        with tracing.span("advance", experiment=experiment_id):
            return await self._advance(experiment_id, check, budget or CallBudget(self.context))

    async def _advance(
        self, experiment_id: str, check: Check, budget: CallBudget
    ) -> tuple[Experiment, Round | None]:
        while True:
            experiment, round_ = await self.repo.with_round(experiment_id)
            found = await check(self.context, experiment, round_)
            if round_ is not None and found.full_group is not None:
                key = round_.number, round_.attempt, found.full_group
                begun = await self.repo.sums.group(experiment.id, *key)
                await self._sum_groups(experiment, round_, {found.full_group: begun}, budget)
            if not found.step_due:
                return experiment, round_
            check = check_all  # a step may make the next one possible
            try:
                if not await self._step(experiment, round_, budget):
                    return experiment, round_
            except OutOfBudget:
                return await self.repo.with_round(experiment_id)

    async def _step(self, experiment: Experiment, round_: Round | None, budget: CallBudget) -> bool:
        """Do the next step if there is one; return whether to look again."""
        if experiment.garbage and await cleanup.try_deletion(
            experiment.id, delete_garbage(self.context, experiment)
        ):
            return True
        match experiment.state:
            case ExperimentState.AWAITING_MODEL | ExperimentState.PAUSED:
                return False
            case ExperimentState.ENROLLING:
                return await self._start(experiment)
            case ExperimentState.RUNNING:
                return await self._run(experiment, round_, budget)
            case _:
                return await cleanup.clean_up_ended(self.context, experiment, round_)

    async def _start(self, experiment: Experiment) -> bool:
        enrolled = await self.repo.count_clients(experiment.id)
        if enrolled < experiment.config.clients_to_start:
            return False
        await fix_normalisation(self.context, experiment)
        started = await self.metering.closed(experiment)
        started = started.move(ExperimentState.RUNNING, round=1)
        if await self.repo.save_experiment(started):
            log_event("experiment started", experiment=experiment.id, clients=enrolled)
        return True

    async def _run(self, experiment: Experiment, round_: Round | None, budget: CallBudget) -> bool:
        if round_ is None:
            return await self._open(experiment)
        match round_.state:
            case state if state in PHASES:
                return await self._phase(experiment, round_, budget)
            case RoundState.COLLECTING:
                return await self._collect(experiment, round_, budget)
            case RoundState.SEALED:
                return await self.closing.freeze(experiment, round_, budget)
            case RoundState.AGGREGATING:
                return await self.closing.take_over(experiment, round_, budget)
            case _:
                return await self._conclude(experiment, round_)

    async def _open(self, experiment: Experiment) -> bool:
        config, number = experiment.config, experiment.round
        schedule = schedule_of(config)
        asked = await self._invitation(experiment, number, 1)
        now = self.context.clock()
        opened = Round(
            experiment_id=experiment.id,
            number=number,
            cohort=schedule.invite(config, asked),
            opened_at=now,
            deadline=schedule.deadline(config, now),
            clients=len(asked.enrolled),
            cut=await cut_of(self.context, experiment),
        )
        if config.secure:
            opened = self.phases.begun(experiment, opened)
        if await self.repo.add_round(opened):
            journal.log_opening(opened)
        return True

    async def _phase(self, experiment: Experiment, round_: Round, budget: CallBudget) -> bool:
        """End a phase of secure aggregation if it is due; start over if too few took part."""
        if round_.helped:
            return await self._ask_helper(experiment, round_, budget)
        outcome, done = await self.phases.look(experiment, round_)
        match outcome:
            case Outcome.ANSWERED:
                return await self.closing.unmask(experiment, round_, budget)
            case Outcome.FAILED:
                out = round_.silent(experiment.revoked, done)
                heard = Heard(reported=tuple(done), revoked=out)
                if schedule_of(experiment.config).repeats(experiment.config, round_):
                    await self._retry(experiment, round_, heard)
                else:
                    needed = self.phases.needed(experiment, round_)
                    await fail(
                        self.context,
                        experiment,
                        f"Only {len(done)} clients of the {needed} that round {round_.number} "
                        f"needs did their part while it was {round_.state}, in {round_.attempt} "
                        "attempts.",
                    )
        return outcome is not Outcome.WAITS

    async def _ask_helper(self, experiment: Experiment, round_: Round, budget: CallBudget) -> bool:
        """Ask the helper for the sum of the masks, and aggregate the updates with it.

        While the helper does not answer the round waits, and no client trains again.
        """
        now = self.context.clock()
        if now < round_.deadline <= self.phases.deadline(experiment):
            return False  # another call asks now, or has asked in vain
        asking = round_.move(RoundState.UNMASKING, deadline=now + ASK_AGAIN_SECONDS)
        if not await self.repo.save_round(asking):
            return True
        mine = replace(asking, revision=asking.revision + 1)
        # Imported here: it brings NumPy, and most processes only answer polls.
        from app.service.secure.helped import Helped

        try:
            updates = await self.repo.accepted_updates(mine)
            helped = await Helped.of(self.context, experiment, mine, updates)
            counts = await helped.counts()
        except HelperUnavailable as error:
            journal.log_round(mine, "the round waits for the helper", WARNING, cause=error.message)
            return False
        except HelperRefused as error:
            await self._refused(experiment, mine, error)
            return True
        opened = replace(mine, helper_counts=counts)
        return await self.closing.unmask(experiment, opened, budget)

    async def _refused(self, experiment: Experiment, round_: Round, error: HelperRefused) -> None:
        """Give a round whose sum the helper does not open another attempt, or fail."""
        journal.log_round(round_, "refused by the helper", WARNING, cause=error.message)
        if schedule_of(experiment.config).repeats(experiment.config, round_):
            await self._retry(experiment, round_, Heard(reported=round_.accepted))
            return
        reason = (
            f"The helper did not open the sum of round {round_.number}, in {round_.attempt} "
            f"attempts. It says: {error.message}"
        )
        await fail(self.context, experiment, reason)

    async def _collect(self, experiment: Experiment, round_: Round, budget: CallBudget) -> bool:
        """Do what the schedule says: seal the round, repeat it, or fail the experiment.

        Until something is due, sum its full groups.
        """
        config, now = experiment.config, self.context.clock()
        schedule = schedule_of(config)
        heard = await self._heard(experiment, round_)
        latest = schedule.latest_deadline(config, round_, heard, now)
        if round_.deadline > latest:
            await self.repo.save_round(round_.move(RoundState.COLLECTING, deadline=latest))
            return True
        match schedule.due(config, round_, heard, now):
            case Due.NOTHING:
                await self._sum_full_groups(experiment, round_, heard, budget)
                return False
            case Due.CLOSE:
                sealed = round_.move(RoundState.SEALED, revoked=heard.revoked)
                if await self.repo.save_round(sealed):
                    journal.log_seal(round_, len(heard.reported))
            case Due.REPEAT:
                await self._repeat(experiment, round_, heard, budget)
        return True

    async def _heard(self, experiment: Experiment, round_: Round) -> Heard:
        """Read which clients of the round are settled."""
        reported = await self.repo.reported_slots(round_)
        refused: list[int] = []
        if not set(round_.cohort) <= set(reported):
            refused = await self.repo.refused_slots(experiment.id, round_.number)
        revoked = round_.silent(experiment.revoked, {*reported, *refused})
        return Heard(reported=tuple(reported), refused=tuple(refused), revoked=revoked)

    async def _repeat(
        self, experiment: Experiment, round_: Round, heard: Heard, budget: CallBudget
    ) -> None:
        """Give a round with too few updates another attempt, or fail the experiment."""
        config, needed = experiment.config, experiment.config.updates_to_close
        schedule = schedule_of(config)
        settled = heard.covers(round_.cohort)
        if not settled and (fault := await blobs_fault(self.context)) is not None:
            # No client could report, so the attempt starts again and does not count.
            budget.faults.append(fault)
            later = schedule.deadline(config, self.context.clock())
            if await self.repo.save_round(round_.move(RoundState.COLLECTING, deadline=later)):
                journal.log_round(round_, "deadline extended", WARNING, cause=fault.message)
        elif schedule.repeats(config, round_):
            await self._retry(experiment, round_, heard)
        else:
            named = "" if config.secret_cohorts else _describe_missing(round_, heard)
            await fail(
                self.context,
                experiment,
                f"Round {round_.number} got {len(heard.reported)} of the {needed} updates that it "
                f"needs, in {round_.attempt} attempts. {named}",
            )

    async def _sum_full_groups(
        self, experiment: Experiment, round_: Round, heard: Heard, budget: CallBudget
    ) -> None:
        settled = {*heard.reported, *heard.refused, *experiment.revoked}
        if full := full_groups(round_, settled):
            begun = await self.repo.sums.groups(round_)
            groups = {number: begun.get(number) for number in full}
            await self._sum_groups(experiment, round_, groups, budget)

    async def _sum_groups(
        self,
        experiment: Experiment,
        round_: Round,
        groups: dict[int, FullGroup | None],
        budget: CallBudget,
    ) -> None:
        """Sum those of the full groups that no call has summed; each comes with its record."""
        left = {number: begun for number, begun in groups.items() if not (begun and begun.done)}
        if left:
            # Imported here: it brings NumPy, and most processes only answer polls.
            from app.service.aggregation.run import sum_groups

            await sum_groups(self.context, experiment, round_, left, budget)

    async def _begin_again(self, experiment: Experiment, held: Held[Round], reason: str) -> None:
        """Give a round whose masked updates cannot be summed another attempt. Raises LostLease."""
        await held.renew()
        round_ = held.record
        if round_.helped:
            about = (
                f"Round {round_.number} has no sum, and the helper opens no other one of the round."
            )
            await fail(self.context, experiment, f"{about} {reason}")
            return
        if not schedule_of(experiment.config).repeats(experiment.config, round_):
            about = f"Round {round_.number} has no sum after {round_.attempt} attempts."
            await fail(self.context, experiment, f"{about} {reason}")
            return
        refused = await self.repo.refused_slots(experiment.id, round_.number)
        reported = tuple(slot for slot in round_.accepted if slot not in refused)
        again = await self._next_attempt(experiment, round_, Heard(reported=reported))
        journal.log_round(round_, "sum not opened", WARNING, cause=reason)
        await held.save(again)
        journal.log_new_attempt(again, len(reported), experiment.config.updates_to_close)

    async def _retry(self, experiment: Experiment, round_: Round, heard: Heard) -> None:
        again = await self._next_attempt(experiment, round_, heard)
        if await self.repo.save_round(again):
            needed = experiment.config.updates_to_close
            journal.log_new_attempt(again, len(heard.reported), needed)

    async def _next_attempt(self, experiment: Experiment, round_: Round, heard: Heard) -> Round:
        """The round in its next attempt, which is not stored yet."""
        config, now = experiment.config, self.context.clock()
        schedule = schedule_of(config)
        refused = heard.refused
        if round_.masked:  # also of earlier attempts, in any phase
            refused = tuple(await self.repo.refused_slots(experiment.id, round_.number))
        asked = await self._invitation(experiment, round_.number, round_.attempt + 1)
        asked = replace(
            asked,
            enrolled=[slot for slot in asked.enrolled if slot not in refused],
            reported=heard.reported,
            absent=round_.invited or round_.cohort,
        )
        ended = Attempt(
            attempt=round_.attempt,
            cohort=round_.invited or round_.cohort,
            reported=heard.reported,
            refused=refused,
            ended_at=now,
            revoked=heard.revoked,
            unopened=round_.state is RoundState.AGGREGATING,
        )
        again = round_.move(
            RoundState.ADVERTISING
            if round_.masked and not round_.helped
            else RoundState.COLLECTING,
            attempt=asked.attempt,
            cohort=schedule.invite(config, asked),
            clients=len(asked.enrolled),
            deadline=schedule.deadline(config, now),
            earlier=(*round_.earlier, ended),
        )
        return self.phases.begun(experiment, again) if round_.masked else again

    async def _invitation(self, experiment: Experiment, number: int, attempt: int) -> Invitation:
        """The clients that an attempt may invite, and what the store holds of them."""
        enrolled = await self.repo.enrolled_slots(experiment.id)
        revoked = set(experiment.revoked)
        slots = [slot for slot in enrolled if slot not in revoked]
        reads = schedule_of(experiment.config).reads(experiment.config)
        known = await known_clients(self.context, experiment, slots, reads)
        secret = await self.repo.secret(experiment.id) if Reads.SECRET in reads else b""
        return Invitation(
            number=number, attempt=attempt, enrolled=slots, known=known, secret=secret
        )

    async def _conclude(self, experiment: Experiment, round_: Round) -> bool:
        """Delete the closed round's uploads, then open the next round, pause or complete."""
        await cleanup.delete_uploads(self.context, experiment, round_.number)
        config, verdict = experiment.config, await self._verdict(experiment, round_)
        experiment = replace(
            await self.metering.closed(experiment, round_),
            model_version=round_.number,
            streak=verdict.streak,
            ledger=await self._ledger(experiment, round_),
        )
        experiment = with_new_model(experiment, round_)
        if verdict.reason is not None:
            after = self._completed(experiment, verdict.reason)
        elif round_.number >= config.rounds:
            after = self._completed(experiment, _all_closed(config))
        else:
            after = await self._next(experiment, round_)
        if await self.repo.save_experiment(after):
            journal.log_conclusion(after)
        return True

    async def _ledger(self, experiment: Experiment, round_: Round) -> LedgerEntry | None:
        if not mechanism_of(experiment.config).keeps_ledger:
            return None
        model = await self.repo.model(experiment.id, round_.number)
        return model.ledger if model else None

    async def _verdict(self, experiment: Experiment, round_: Round) -> Verdict:
        config = experiment.config
        if config.target is None:
            return Verdict(0)
        accepted = await self._measured(round_)
        verdict = decide(config, experiment.streak, round_, accepted)
        if verdict.streak < config.patience or not config.goal.pooled:
            return verdict
        earlier = []
        for number in range(round_.number - 1, round_.number - config.patience, -1):
            before = await self.repo.round(experiment.id, number)
            earlier.append(await self._measured(before) if before else [])
        return decide(config, experiment.streak, round_, accepted, earlier)

    async def _measured(self, round_: Round) -> list[Update]:
        """The accepted updates; those that measured an older model, without their metrics."""
        return [
            update if update.base_version is None else replace(update, metrics={})
            for update in await self.repo.accepted_updates(round_)
        ]

    def _completed(self, experiment: Experiment, reason: str) -> Experiment:
        return experiment.move(
            ExperimentState.COMPLETED,
            reason=reason,
            ended_at=self.context.clock(),
            ended_by=COORDINATOR,
        )

    async def _next(self, experiment: Experiment, round_: Round) -> Experiment:
        """The experiment in its next round, or paused before it."""
        now = self.context.clock()
        if experiment.pausing:
            return experiment.pause(now, experiment.pausing, "Paused by the admin.")
        if reason := await self.metering.over_budget(experiment, round_):
            return experiment.pause(now, COORDINATOR, reason)
        if reason := over_epsilon(experiment):
            return experiment.pause(now, COORDINATOR, reason)
        return experiment.move(ExperimentState.RUNNING, round=round_.number + 1)


def _all_closed(config: Config) -> str:
    reason = f"All {config.rounds} rounds are closed."
    if config.target is None:
        return reason
    verb = "shown" if config.goal.pooled else "reached"
    return f"{reason} The {target_text(config)} was not {verb}."


def _describe_missing(round_: Round, heard: Heard) -> str:
    """Why a round has no quorum: its missing, refused and revoked clients, 20 ids of each."""
    settled = {*heard.reported, *heard.refused, *heard.revoked}
    fates = {
        "Missing": round_.silent(round_.cohort, settled),
        "Refused": heard.refused,
        "Revoked": heard.revoked,
    }
    return " ".join(
        f"{fate}: {', '.join(map(client_id, slots[:20]))}{' and more' if len(slots) > 20 else ''}."
        for fate, slots in fates.items()
        if slots
    )
