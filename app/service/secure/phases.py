"""The phases of secure aggregation: keys and shares before the training, unmasking after the seal.

Each phase waits for the clients that the one before has listed, up to a deadline. What a client
sends is one insert-if-absent, and what ends a phase is one compare-and-set on the round, which
lists those that have sent something: the list decides, so a client that comes a moment too late is
not in it. A round with too few clients in a phase starts another attempt, with new keys.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from app.service import journal
from app.service.context import Context
from app.service.records.attempts import attempt_context
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.round import Round, RoundState
from serverless_fl.privacy.secure.graph import COMPLETE, confirmations, parameters


class Outcome(StrEnum):
    """What a look at a phase finds."""

    WAITS = "waits"
    MOVED = "moved"  # the round is in its next phase, or another call was faster
    ANSWERED = "answered"  # the shares suffice to unmask the sum
    FAILED = "failed"  # too few clients by the deadline


class Phases:
    """Ends the phases of rounds under secure aggregation."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.repo = context.repo

    def deadline(self, experiment: Experiment) -> float:
        """The deadline of a phase that begins now."""
        return self.context.clock() + experiment.config.phase_seconds

    def begun(self, experiment: Experiment, round_: Round) -> Round:
        """The round in the first state of its attempt, for which nobody has sent anything yet."""
        helped = experiment.config.helped
        return replace(
            round_,
            state=RoundState.COLLECTING if helped else RoundState.ADVERTISING,
            masked=True,
            helped=helped,
            helper_counts="",
            deadline=round_.deadline if helped else self.deadline(experiment),
            invited=round_.cohort,
            roster=(),
            accepted=(),
            revoked=(),
            lost=(),
            weights=(),
            lease=None,
        )

    async def look(self, experiment: Experiment, round_: Round) -> tuple[Outcome, list[int]]:
        """End the phase if it is due; give the slots that have done their part of it."""
        latest = self.deadline(experiment)
        if round_.deadline > latest:  # of a clock that jumped ahead
            await self.repo.save_round(round_.move(round_.state, deadline=latest))
            return Outcome.MOVED, []
        awaited = set(round_.awaited)
        done = [slot for slot in await self.repo.phase_slots(round_) if slot in awaited]
        over = awaited <= {*done, *experiment.revoked} or self.context.clock() >= round_.deadline
        if round_.state is RoundState.UNMASKING:
            # After shares that did not open a sum, all are waited for: the more there are, the more
            # wrong ones can be told from them.
            unopened = any(attempt.unopened for attempt in round_.earlier)
            if (over or not unopened) and await self._suffices(experiment, round_, done):
                return Outcome.ANSWERED, done
        elif over and len(done) >= self.needed(experiment, round_):
            await self._end(experiment, round_, done)
            return Outcome.MOVED, done
        return (Outcome.FAILED if over else Outcome.WAITS), done

    def needed(self, experiment: Experiment, round_: Round) -> int:
        """The clients that must do their part of the phase."""
        if round_.state is RoundState.CONFIRMING:
            return confirmations(len(round_.roster))
        return experiment.config.updates_to_close

    async def _end(self, experiment: Experiment, round_: Round, done: list[int]) -> None:
        if round_.state is RoundState.ADVERTISING:
            after = round_.move(
                RoundState.SHARING, roster=tuple(done), deadline=self.deadline(experiment)
            )
        elif round_.state is RoundState.CONFIRMING:
            after = round_.move(RoundState.UNMASKING, deadline=self.deadline(experiment))
        else:
            after = round_.move(
                RoundState.COLLECTING,
                cohort=tuple(done),
                deadline=self.context.clock() + experiment.config.deadline_seconds,
            )
        if await self.repo.save_round(after):
            journal.log_round(after, "phase ended", clients=len(done), now=str(after.state))

    async def _suffices(self, experiment: Experiment, round_: Round, done: list[int]) -> bool:
        found = parameters(len(round_.roster))
        if len(round_.roster) <= COMPLETE:  # everybody holds a share of each secret
            return len(done) >= found.threshold
        # A client hands in at most degree + 1 shares, and each secret needs `threshold` of them.
        # Fewer clients than that never suffice. A look at each secret takes longer.
        if len(done) * (found.degree + 1) < len(round_.accepted) * found.threshold:
            return False
        # Imported here: it brings NumPy, and most processes only answer polls.
        from serverless_fl.privacy.secure.recovery import suffices

        context = await attempt_context(self.repo, experiment, round_)
        return suffices(context, round_.cohort, round_.accepted, done)
