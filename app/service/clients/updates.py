"""What a client uploads: the parts of an update, and the commit that makes the update count."""

from __future__ import annotations

from collections.abc import Sequence

from app.service import journal
from app.service.clients.checking import check_update, require_masked, require_seal
from app.service.clients.enrolment import require_part
from app.service.context import Context
from app.service.files.announcements import Ledger
from app.service.files.uploads import PartPlan, Uploads, max_update_bytes, update_bytes
from app.service.records import keys
from app.service.rounds.buffers import round_for
from app.service.rounds.machine import Rounds
from app.service.rounds.progress import check_after
from serverless_fl.domain.errors import (
    AlreadyUploaded,
    BadWeights,
    CoordinatorError,
    OutOfTurn,
    StoreUnavailable,
    TooLarge,
)
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.records import LATE, Client, Part, Refusal, Update, UpdateCommit
from serverless_fl.domain.round import Round, RoundState
from serverless_fl.schedule import schedule_of


class Updates:
    """Takes the updates of a round: each client's first sound one, exactly once."""

    def __init__(self, context: Context, rounds: Rounds) -> None:
        self.context = context
        self.repo = context.repo
        self.rounds = rounds

    async def store_part(
        self, client: Client, number: int, part: int, sha256: str, data: bytes
    ) -> None:
        """Take one part of an update. Raises OutOfTurn, DigestMismatch, Conflict."""
        uploads = await self._uploads(client, number)
        await uploads.store(part, sha256, data)

    async def plan_parts(
        self, client: Client, number: int, parts: Sequence[Part]
    ) -> list[PartPlan]:
        """Say which parts are stored, and how to upload the others.

        Raises OutOfTurn, TooLarge, Conflict.
        """
        return await (await self._uploads(client, number)).plan(parts)

    async def _uploads(self, client: Client, number: int) -> Uploads:
        """Raises OutOfTurn."""
        experiment = await self.repo.experiment(client.experiment_id)
        number = await round_for(self.repo, experiment, client.slot, number)
        await self._require_turn(experiment, client, number)
        base = await self.repo.model(experiment.id, 0)
        size = await update_bytes(self.repo, experiment, base.blob) if base else 0
        return Uploads(
            self.context,
            keys.update_blob(experiment.id, number, client.slot),
            max_update_bytes(size),
            Ledger.of_update(self.repo.documents, experiment.id, number, client.slot),
        )

    async def commit(
        self, client: Client, number: int, commit: UpdateCommit, data: bytes | None = None
    ) -> Update:
        """Accept an update: exactly once, and only if the round's aggregation will hold it.

        Its parts were stored before, or it has one part and that is `data`. The same upload again
        returns the same update, also after the round is closed. Raises AlreadyUploaded for another
        one, OutOfTurn, Revoked, PartsMissing, DigestMismatch, Conflict, and BadWeights or TooLarge
        for what the file holds; the last two are kept in the round's record.
        """
        try:
            return await self._commit(client, number, commit, data)
        except StoreUnavailable:
            raise  # the update itself was not refused
        except CoordinatorError as error:
            journal.log_refused_update(client, number, error)
            raise

    async def _commit(
        self, client: Client, number: int, commit: UpdateCommit, data: bytes | None
    ) -> Update:
        experiment = await self.repo.experiment(client.experiment_id)
        base = number - 1
        number = await round_for(self.repo, experiment, client.slot, number)
        attempt = require_masked(experiment.config, commit)
        standing = await self.repo.update(experiment.id, number, client.slot, attempt)
        if standing is None:
            round_ = await self._require_turn(experiment, client, number, attempt)
            standing = await self._accept(experiment, client, round_, commit, data, base)
        if standing.trained_from != base:
            raise OutOfTurn(
                f"Round {number} has an update of {client.id} already, trained from model "
                f"{standing.trained_from}: it takes one of each client.",
                code="send-again",
            )
        sent = commit.sha256, commit.num_examples, commit.counts, commit.seal
        stands = standing.blob.sha256, standing.num_examples, standing.counts, standing.seal
        if stands != sent:
            raise AlreadyUploaded(
                f"Another update of {client.id} stands for round {number} (SHA-256 "
                f"{standing.blob.sha256}, {standing.num_examples} examples)."
            )
        await self._require_counted(experiment, client, number, attempt)
        return standing

    async def _require_turn(
        self, experiment: Experiment, client: Client, number: int, attempt: int = 0
    ) -> Round:
        """The open round, if it collects and the client is in its cohort.

        `attempt` is that of a masked update.

        Raises OutOfTurn, Revoked. It records that an update of a party's own data came too late.
        """
        try:
            return await self._turn(experiment, client, number, attempt)
        except OutOfTurn:
            await self._record_late(experiment, client, number)
            raise

    async def _turn(
        self, experiment: Experiment, client: Client, number: int, attempt: int
    ) -> Round:
        """As `_require_turn`, without a record."""
        self._require_open(experiment, client, number)
        round_ = await self.repo.round(experiment.id, number)
        if round_ is None or round_.state is not RoundState.COLLECTING:
            state = "not open yet" if round_ is None else round_.state
            raise OutOfTurn(
                f"Round {number} is {state}; it takes no updates.", code=_late_code(experiment)
            )
        if client.slot not in round_.cohort:
            raise OutOfTurn(f"{client.id} is not in the cohort of round {number}.")
        if attempt and attempt != round_.attempt:
            raise OutOfTurn(f"Attempt {attempt} at round {number} is over.")
        return round_

    def _require_open(self, experiment: Experiment, client: Client, number: int) -> None:
        """Raises OutOfTurn, Revoked."""
        require_part(experiment, client.slot)
        if experiment.state is not ExperimentState.RUNNING:
            raise OutOfTurn(f"The experiment is {experiment.state}; no round is open.")
        if number < experiment.round:
            raise OutOfTurn(
                f"Round {number} is closed and takes no more updates; round {experiment.round} is "
                "open."
            )
        if number > experiment.round:
            raise OutOfTurn(f"Round {number} is not open yet; round {experiment.round} is.")

    async def _accept(
        self,
        experiment: Experiment,
        client: Client,
        round_: Round,
        commit: UpdateCommit,
        data: bytes | None,
        base: int,
    ) -> Update:
        """Check the upload and insert it. Returns it, or the one that a faster call inserted."""
        number = round_.number
        try:
            update = await check_update(
                *(self.context, experiment, client, number, commit, data),
                base if base != number - 1 else None,
            )
            if update.seal:
                await require_seal(self.context, experiment, round_, update)
        except (BadWeights, TooLarge) as error:
            await self._refuse(experiment, client, number, error)
            raise
        # During the check the client may have been revoked, or the experiment may have ended.
        # `_require_counted` finds out, after the insert, whether the round was sealed.
        self._require_open(await self.repo.experiment(client.experiment_id), client, number)
        if await self.repo.add_update(update):
            journal.log_update(client, update)
            return update
        standing = await self.repo.update(experiment.id, number, client.slot, update.attempt)
        return standing or update

    async def _refuse(
        self, experiment: Experiment, client: Client, number: int, error: BadWeights | TooLarge
    ) -> None:
        await self.repo.add_refusal(
            Refusal(
                experiment_id=experiment.id,
                round=number,
                slot=client.slot,
                code=error.code,
                reason=error.message,
                refused_at=self.context.clock(),
            )
        )
        # The round may have waited for this client only.
        await self.rounds.advance(experiment.id, check_after(client.slot))

    async def _record_late(self, experiment: Experiment, client: Client, number: int) -> None:
        """Record that a party with data of its own trained for a round which closed without it.

        So a party that is slow can be told from one that is silent. Of a common data set, which
        may ask more clients than it waits for, nothing is recorded.
        """
        if not experiment.config.own_data or number > experiment.round:
            return
        if schedule_of(experiment.config).max_age is not None:
            return
        round_ = await self.repo.round(experiment.id, number)
        if round_ is None or round_.state not in (RoundState.AGGREGATING, RoundState.CLOSED):
            return
        if client.slot not in round_.asked - {*round_.accepted, *round_.lost, *round_.revoked}:
            return
        now = self.context.clock()
        open_for = (round_.closed_at or round_.deadline) - round_.opened_at
        await self.repo.add_refusal(
            Refusal(
                experiment_id=experiment.id,
                round=number,
                slot=client.slot,
                code=LATE,
                reason=f"The update came {now - round_.opened_at:.0f} s after the round was "
                f"opened, which was closed after {open_for:.0f} s.",
                refused_at=now,
            )
        )

    async def _require_counted(
        self, experiment: Experiment, client: Client, number: int, attempt: int = 0
    ) -> None:
        """Raise OutOfTurn unless the aggregation takes the stored update.

        It does if the round still collects now that the update is stored: the list of updates is
        read only after the seal. If the seal came first, the frozen list tells; `advance` never
        leaves a round sealed.
        """
        _, round_ = await self.rounds.advance(experiment.id, check_after(client.slot))
        if round_ is None or round_.number != number:  # it was closed, and another is open
            round_ = await self.repo.round(experiment.id, number)
        if round_ is None or round_.state is RoundState.ABANDONED:
            raise OutOfTurn(f"The experiment ended before round {number} was closed.")
        if attempt and attempt != round_.attempt:
            raise OutOfTurn(f"Attempt {attempt} at round {number} ended without this update.")
        if client.slot in round_.lost:
            raise OutOfTurn(f"The store lost the update for round {number}: it does not count.")
        if round_.state is not RoundState.COLLECTING and client.slot not in round_.accepted:
            await self._record_late(experiment, client, number)
            raise OutOfTurn(
                f"Round {number} was closed before the update arrived.",
                code=_late_code(experiment),
            )


def _late_code(experiment: Experiment) -> str:
    """The code for an update that a round does not take: perhaps a later round does."""
    later = schedule_of(experiment.config).max_age is not None
    return "send-again" if later else OutOfTurn.code
