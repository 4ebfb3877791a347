"""A client's turn: what it shall do now, and what it uploads."""

from __future__ import annotations

from datetime import UTC, datetime

from app.service import journal
from app.service.clients.checking import checked
from app.service.clients.enrolment import require_part
from app.service.clients.long_poll import Gone, Hold, turn_of
from app.service.context import Context
from app.service.cost import usage
from app.service.files.announcements import Ledger
from app.service.files.uploads import Uploads, max_update_bytes, update_bytes
from app.service.records import keys
from app.service.rounds.machine import Rounds
from app.service.rounds.progress import check_after, check_sample
from app.telemetry import ids
from serverless_fl.domain.errors import (
    AlreadyUploaded,
    BadWeights,
    CoordinatorError,
    OutOfTurn,
    StoreUnavailable,
    TooLarge,
)
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.records import Client, ModelVersion, Refusal, Update
from serverless_fl.domain.round import Round, RoundState
from serverless_fl.wire.parts import PartAnnouncement, PartPlan
from serverless_fl.wire.schema import BlobInfo, UpdateCommit, UpdateReceipt
from serverless_fl.wire.turns import Done, Train, Training, Wait


class Participation:
    """Round status and uploads of one client."""

    def __init__(self, context: Context, rounds: Rounds, hold: Hold) -> None:
        self.context = context
        self.repo = context.repo
        self.rounds = rounds
        self.hold = hold

    async def status(
        self,
        client: Client,
        wait: float = 0.0,
        known: int | None = None,
        gone: Gone | None = None,
    ) -> Train | Wait | Done:
        """What this client shall do now.

        Were it to wait in round `known`, the answer is held for up to `wait` seconds until it is
        something else, or the client is `gone`.
        """
        experiment, round_ = await self.rounds.advance(client.experiment_id, check_sample)
        answer = await self._status(client, experiment, round_)
        if not isinstance(answer, Wait) or answer.round != known:
            return answer
        if (seconds := min(wait, answer.hold)) <= 0:
            return answer
        if self.hold.has_enough(client):
            return answer.model_copy(update={"hold": 0.0})
        turn = turn_of(experiment, round_)
        with ids.holding():
            await self.hold.until_other(experiment.id, turn, seconds, slot=client.slot, gone=gone)
        experiment, round_ = await self.rounds.advance(client.experiment_id, check_sample)
        return await self._status(client, experiment, round_)

    async def _status(
        self, client: Client, experiment: Experiment, round_: Round | None
    ) -> Train | Wait | Done:
        if experiment.ended:
            return Done(
                state=experiment.state,
                reason=experiment.reason,
                model_version=experiment.model_version,
            )
        if experiment.state is ExperimentState.PAUSED:
            return self._wait(experiment, round_, f"Paused: {experiment.reason}")
        if round_ is None:
            enrolled = await self.repo.count_clients(experiment.id)
            return self._wait(experiment, round_, f"{enrolled} of {_needed(experiment)} enrolled.")
        if round_.state is not RoundState.COLLECTING:
            return self._wait(experiment, round_, f"Round {round_.number} is being aggregated.")
        if client.slot not in round_.cohort:
            return self._wait(experiment, round_, f"Not in the cohort of round {round_.number}.")
        if await self.repo.update(experiment.id, round_.number, client.slot):
            return self._wait(experiment, round_, "Your update is in; others are still training.")
        refusal = await self.repo.refusal(experiment.id, round_.number, client.slot)
        if refusal is not None:
            return self._wait(experiment, round_, f"Your update was refused: {refusal.reason}")
        return await self._train(experiment, round_)

    async def _train(self, experiment: Experiment, round_: Round) -> Train | Wait:
        base = await self.repo.model(experiment.id, round_.base_version)
        if base is None:
            return self._wait(experiment, round_, "The base model is not there yet.")
        seconds_left = max(0.0, round_.deadline - self.context.clock())
        task = await self._task(experiment, round_, base)
        return task.model_copy(update={"seconds_left": seconds_left})

    async def _task(self, experiment: Experiment, round_: Round, base: ModelVersion) -> Train:
        config, file = experiment.config, base.copy or base.blob
        return Train(
            round=round_.number,
            attempt=round_.attempt,
            base_version=round_.base_version,
            model=BlobInfo(sha256=file.sha256, size=file.size),
            deadline=datetime.fromtimestamp(round_.deadline, UTC),
            seconds_left=0.0,
            training=Training(
                local_epochs=config.local_epochs,
                batch_size=config.batch_size,
                learning_rate=config.learning_rate_in(round_.number),
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                seed=config.seed,
            ),
            part_bytes=self.context.limits.part_bytes,
            direct=self.context.direct,
            at_once=not self.context.direct,
            max_update_bytes=max_update_bytes(await update_bytes(self.repo, experiment, base.blob)),
            content_codings=[] if self.context.direct else ["gzip"],
            update_encoding=config.update_encoding,
            download_encoding=config.download_encoding,
        )

    def _wait(self, experiment: Experiment, round_: Round | None, message: str) -> Wait:
        """Advise a pause in proportion to how long the round, or the pause, has taken."""
        limits = self.context.limits
        bounds = limits.poll_min_seconds, limits.poll_max_seconds
        since = round_.opened_at if round_ else experiment.created_at
        if experiment.state is ExperimentState.PAUSED:
            since = experiment.pauses[-1].paused_at
            bounds = usage.paused_bounds(experiment.config, *bounds)
        advised = usage.pause(self.context.clock() - since, *bounds)
        return Wait(
            round=experiment.round,
            retry_after=round(advised * (0.75 + 0.5 * self.context.jitter()), 3),
            message=message,
            # A paused experiment may stay so for days: there is nothing to be kept waiting for.
            hold=0.0 if experiment.state is ExperimentState.PAUSED else self.hold.seconds,
        )

    async def store_part(
        self, client: Client, number: int, part: int, sha256: str, data: bytes
    ) -> None:
        """Take one part of an update. Raises OutOfTurn, DigestMismatch, Conflict."""
        uploads = await self._uploads(client, number)
        await uploads.store(part, sha256, data)

    async def plan_parts(
        self, client: Client, number: int, parts: list[PartAnnouncement]
    ) -> list[PartPlan]:
        """Which parts are here, and how to bring the rest. Raises OutOfTurn, TooLarge, Conflict."""
        return await (await self._uploads(client, number)).plan(parts)

    async def _uploads(self, client: Client, number: int) -> Uploads:
        """Raises OutOfTurn."""
        experiment = await self.repo.experiment(client.experiment_id)
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
    ) -> UpdateReceipt:
        """Accept an update: exactly once, and only if the round's aggregation will hold it.

        Its parts were stored before, or it has one part and that is `data`. The same upload again
        gets the same receipt, also after the round is closed. Raises AlreadyUploaded for another
        one, OutOfTurn, Revoked, PartsMissing, DigestMismatch, Conflict, and BadWeights or TooLarge
        for what it holds; these are noted in the round's record.
        """
        try:
            return await self._commit(client, number, commit, data)
        except StoreUnavailable:
            raise  # nothing was said of the update
        except CoordinatorError as error:
            journal.log_refused_update(client, number, error)
            raise

    async def _commit(
        self, client: Client, number: int, commit: UpdateCommit, data: bytes | None
    ) -> UpdateReceipt:
        experiment = await self.repo.experiment(client.experiment_id)
        standing = await self.repo.update(experiment.id, number, client.slot)
        if standing is None:
            await self._require_turn(experiment, client, number)
            standing = await self._accept(experiment, client, number, commit, data)
        if (standing.blob.sha256, standing.num_examples) != (commit.sha256, commit.num_examples):
            raise AlreadyUploaded(
                f"Another update of {client.id} stands for round {number} (SHA-256 "
                f"{standing.blob.sha256}, {standing.num_examples} examples)."
            )
        await self._require_counted(experiment, client, number)
        return UpdateReceipt(
            round=number,
            client_id=client.id,
            sha256=standing.blob.sha256,
            size=standing.blob.size,
            num_examples=standing.num_examples,
        )

    async def _require_turn(self, experiment: Experiment, client: Client, number: int) -> Round:
        """The open round, if it collects and the client is in its cohort.

        Raises OutOfTurn, Revoked.
        """
        self._require_open(experiment, client, number)
        round_ = await self.repo.round(experiment.id, number)
        if round_ is None or round_.state is not RoundState.COLLECTING:
            state = "not open yet" if round_ is None else round_.state
            raise OutOfTurn(f"Round {number} is {state}; it takes no updates.")
        if client.slot not in round_.cohort:
            raise OutOfTurn(f"{client.id} is not in the cohort of round {number}.")
        return round_

    def _require_open(self, experiment: Experiment, client: Client, number: int) -> None:
        """Raises OutOfTurn, Revoked."""
        require_part(experiment, client.slot)
        if experiment.state is not ExperimentState.RUNNING:
            raise OutOfTurn(f"The experiment is {experiment.state}; no round is open.")
        if number != experiment.round:
            raise OutOfTurn(f"Round {number} is not open; round {experiment.round} is.")

    async def _accept(
        self,
        experiment: Experiment,
        client: Client,
        number: int,
        commit: UpdateCommit,
        data: bytes | None,
    ) -> Update:
        """Check the upload and insert it; gives what stands, ours or a faster one."""
        try:
            update = await checked(self.context, experiment, client, number, commit, data)
        except (BadWeights, TooLarge) as error:
            await self._refuse(experiment, client, number, error)
            raise
        # The check takes its time: the client may be revoked, or the experiment ended, by now. That
        # the round may be sealed is seen to after the insert.
        self._require_open(await self.repo.experiment(client.experiment_id), client, number)
        if await self.repo.add_update(update):
            journal.log_update(client, update)
            return update
        standing = await self.repo.update(experiment.id, number, client.slot)
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

    async def _require_counted(self, experiment: Experiment, client: Client, number: int) -> None:
        """Raise OutOfTurn unless the stored update is, or is going to be, in the aggregation.

        It is, if the round still collects now that the update is stored: the list is read only
        after the seal. If the seal came first, the frozen list says it; `advance` never leaves a
        round sealed.
        """
        _, round_ = await self.rounds.advance(experiment.id, check_after(client.slot))
        if round_ is None or round_.number != number:  # it was closed, and another is open
            round_ = await self.repo.round(experiment.id, number)
        if round_ is None or round_.state is RoundState.ABANDONED:
            raise OutOfTurn(f"The experiment ended before round {number} was closed.")
        if client.slot in round_.lost:
            raise OutOfTurn(f"The store lost the update for round {number}: it does not count.")
        if round_.state is not RoundState.COLLECTING and client.slot not in round_.accepted:
            raise OutOfTurn(f"Round {number} was closed before the update arrived.")


def _needed(experiment: Experiment) -> str:
    config = experiment.config
    if config.clients_to_start == config.clients:
        return f"{config.clients} clients"
    return f"{config.clients_to_start} clients (at most {config.clients})"
