"""Creates experiments, takes their initial weights, and stops them."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from app.service import journal
from app.service.clients.credentials import AdminKeys, enrolment_key, fingerprint, new_salt
from app.service.context import Context
from app.service.data.declarations import require_agreement
from app.service.files import stored
from app.service.files.announcements import Ledger
from app.service.files.uploads import PartPlan, Uploads
from app.service.records import keys
from app.service.rounds import cleanup
from app.service.rounds.machine import Rounds
from app.telemetry.logs import log_event
from serverless_fl.aggregation import strategy_of
from serverless_fl.aggregation.facts import sentence, training_facts
from serverless_fl.aggregation.strategy import MAX_COMPARED
from serverless_fl.domain import draws
from serverless_fl.domain.errors import BadWeights, Conflict, InvalidConfig, NotFound
from serverless_fl.domain.experiment import WEIGHTS, Config, Experiment, ExperimentState
from serverless_fl.domain.lineage import Origin
from serverless_fl.domain.provenance import config_digest
from serverless_fl.domain.records import Blob, ModelVersion, Part, WeightsCommit
from serverless_fl.domain.task_name import task_named
from serverless_fl.privacy import mechanism_of
from serverless_fl.schedule import schedule_of
from serverless_fl.weights.encodings import encoded_layout, encoding_of, update_layout
from serverless_fl.weights.header import FLOATS, Layout


class Experiments:
    """The life of an experiment before its first round, and its end by the admin."""

    def __init__(self, context: Context, rounds: Rounds, keys: AdminKeys) -> None:
        self.context = context
        self.repo = context.repo
        self.rounds = rounds
        self._keys = keys

    async def find(self, experiment_id: str) -> Experiment:
        """The experiment as it is stored. Raises NotFound."""
        return await self.repo.experiment(experiment_id)

    async def create(
        self,
        name: str,
        config: Config,
        idempotency_key: str | None,
        by: str = "admin",
        origin: Origin | None = None,
    ) -> tuple[Experiment, str]:
        """A new experiment and its enrolment key; `origin` names the model that it begins from.

        The same Idempotency-Key returns the same experiment, with the budget and the number of
        rounds that it has by then. Raises InvalidConfig, and Conflict if the key was used with
        other settings or another origin, or if as many experiments are open as may be. A number of
        rounds that the experiment had is not another setting.
        """
        if config.clients > self.context.limits.max_clients:
            raise InvalidConfig(
                f"clients ({config.clients}) is more than this coordinator takes in an experiment "
                f"({self.context.limits.max_clients}, FL_MAX_CLIENTS).",
                code="too-many-clients",
            )
        _require_trainable(config)
        if config.helped:
            await _require_helper(self.context, config)
        unique = fingerprint(idempotency_key or secrets.token_hex(16))
        existing = await self.repo.experiment_by_key(unique) if idempotency_key else None
        if existing is None:
            try:
                existing = await self._create(name, config, unique, by, origin)
            except Conflict:  # a copy of this request may have taken the last place
                existing = await self.repo.experiment_by_key(unique)
                if existing is None:
                    raise
        if existing.deleted_at is not None:
            raise Conflict(
                f"This Idempotency-Key made experiment {existing.id}, which was deleted: use a new "
                "key for a new experiment.",
                code="idempotency-key-reused",
            )
        same = existing.config.lasting == config.lasting and existing.has_had(config.rounds)
        if not same or existing.origin != origin:
            what = "settings" if existing.origin == origin else "initial weights"
            raise Conflict(
                f"This Idempotency-Key made experiment {existing.id} with other {what}: "
                "use a new key for a new experiment.",
                code="idempotency-key-reused",
            )
        return existing, self._keys.enrolment_key(existing)

    async def _create(
        self, name: str, config: Config, unique: str, by: str, origin: Origin | None
    ) -> Experiment:
        """A new experiment, or the one that a faster call has made by this key. Raises Conflict."""
        await self._require_room()
        now = self.context.clock()
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S")
        experiment_id = f"{stamp}-{secrets.token_hex(3)}"
        salt = new_salt()
        key = enrolment_key(self._keys.current, experiment_id, salt=salt)
        experiment = Experiment(
            id=experiment_id,
            name=name or usual_name(config),
            config=config,
            created_at=now,
            enrol_key_hash=fingerprint(key),
            enrol_salt=salt,
            created_by=by,
            draw_version=draws.VERSION,
            origin=origin,
        )
        if await self.repo.add_experiment(experiment, unique):
            log_event(
                "experiment created",
                experiment=experiment.id,
                by=by,
                clients=config.clients,
                rounds=config.rounds,
            )
            return experiment
        existing = await self.repo.experiment_by_key(unique)
        if existing is None:  # six random digits met twice within a second
            return await self._create(name, config, unique, by, origin)
        return existing

    async def _require_room(self) -> None:
        """Raises Conflict if as many experiments are open as may be.

        Calls at the same moment may pass together: the limit keeps the store from filling up, and
        need not be exact.
        """
        most, count, after = self.context.limits.max_experiments, 0, ""
        while page := await self.repo.experiments(after, 1000):
            count += sum(not experiment.ended for experiment in page)
            after = page[-1].id
        if count >= most:
            raise Conflict(
                f"{count} experiments are open, and this coordinator takes {most} "
                "(FL_MAX_EXPERIMENTS): stop one, or wait until one has ended.",
                code="too-many-experiments",
            )

    async def store_initial_part(
        self, experiment_id: str, number: int, sha256: str, data: bytes
    ) -> None:
        """Take one part of the initial weights. Raises Conflict once they are committed."""
        uploads = await self._initial_uploads(experiment_id)
        await uploads.store(number, sha256, data)

    async def plan_initial_parts(self, experiment_id: str, parts: Sequence[Part]) -> list[PartPlan]:
        """Say which parts are stored, and how to upload the others. Raises Conflict, TooLarge."""
        return await (await self._initial_uploads(experiment_id)).plan(parts)

    async def _initial_uploads(self, experiment_id: str) -> Uploads:
        experiment = await self.repo.experiment(experiment_id)
        if experiment.state is not ExperimentState.AWAITING_MODEL:
            raise Conflict(f"The experiment is {experiment.state}: its initial model is settled.")
        prefix = keys.model_blob(experiment_id, 0)
        ledger = Ledger.of_initial(self.repo.documents, experiment_id)
        return Uploads(self.context, prefix, self.context.limits.max_model_bytes, ledger)

    async def commit_initial(
        self, experiment_id: str, commit: WeightsCommit, by: str = "admin"
    ) -> ModelVersion:
        """Check the initial weights, make them model version 0 and open the enrolment.

        The same bytes again return the same version. Raises Conflict for other bytes, PartsMissing,
        DigestMismatch, TooLarge, BadWeights.
        """
        experiment = await self.repo.experiment(experiment_id)
        model = await self.repo.model(experiment_id, 0)
        if model is None:
            if experiment.ended:
                raise Conflict(f"The experiment is {experiment.state}.")
            model = await self._add_initial(experiment, commit, by)
        if model.blob.sha256 != commit.sha256:
            raise Conflict("The experiment has other initial weights already.")
        while True:
            experiment = await self.repo.experiment(experiment_id)
            if experiment.state is not ExperimentState.AWAITING_MODEL:
                break
            others = cleanup.delete_other_parts(self.context, model.blob)
            await cleanup.try_deletion(experiment_id, others)
            # The write fails if another call did the same, changed the key, or stopped it.
            task = task_named((await self.repo.layout(experiment_id)).metadata)
            enrolling = experiment.move(ExperimentState.ENROLLING, model_version=0, task=task)
            if await self.repo.save_experiment(enrolling):
                log_event("enrolment opened", experiment=experiment_id, bytes=model.blob.size)
        if experiment.model_version is None:
            raise Conflict(f"The experiment is {experiment.state}.")
        return model

    async def _add_initial(
        self, experiment: Experiment, commit: WeightsCommit, by: str
    ) -> ModelVersion:
        experiment_id, limits = experiment.id, self.context.limits
        blob, layout = await stored.commit(
            self.context.blobs,
            keys.model_blob(experiment_id, 0),
            commit.sha256,
            commit.parts,
            limit=limits.max_model_bytes,
            # A part that came through a coordinator was within the limit of that time.
            part_bytes=limits.part_bytes if self.context.direct else limits.max_model_bytes,
        )
        if (found := encoding_of(layout)) != WEIGHTS:
            raise BadWeights(f"This file is in {found}, no model itself.", code="encoding-mismatch")
        if experiment.origin is not None and experiment.origin.sha256 != blob.sha256:
            raise BadWeights(
                f"The experiment begins from {experiment.origin}, but this file has the SHA-256 "
                f"{blob.sha256}.",
                code="not-the-origin",
            )
        companions = strategy_of(experiment.config).companions  # raises if it is impossible:
        update_layout(layout, experiment.config.sent_encoding, companions)
        _require_noise(experiment.config, layout)
        if experiment.config.own_data:
            require_agreement(experiment.config, layout.metadata)
        model = ModelVersion(
            experiment_id=experiment_id,
            version=0,
            blob=blob,
            parent_sha256=None,
            config_sha256=config_digest(experiment.config_of(0)),
            created_at=self.context.clock(),
            created_by=by,
            header=base64.b64encode(layout.header).decode(),
            compressed=await self._compress(experiment, blob, layout),
        )
        if (await self.repo.experiment(experiment_id)).ended:  # while it was checked
            raise Conflict("The experiment has ended.")
        if await self.repo.add_model(model):
            return model
        kept = await self.repo.model(experiment_id, 0)
        if kept is None:
            raise NotFound("The initial model is gone.")
        return kept

    async def _compress(self, experiment: Experiment, blob: Blob, layout: Layout) -> Blob | None:
        """Store the compressed model if clients download one. Raises BadWeights."""
        encoding = experiment.config.download_encoding
        if encoding == WEIGHTS:
            return None
        encoded_layout(layout, encoding)  # raises if it is impossible
        from app.service.files.compressed_models import CompressedModel

        prefix = keys.compressed_blob(experiment.id, 0)
        made = CompressedModel(self.context.blobs, blob, layout, encoding, prefix)
        async for _ in made.steps(self.context.limits.part_bytes):
            pass
        return made.blob

    async def stop(self, experiment_id: str, reason: str, by: str = "admin") -> Experiment:
        """End an experiment; its models stay. An experiment that has ended stays as it is."""
        while True:
            experiment = await self.repo.experiment(experiment_id)
            if experiment.ended:
                break
            stopped = experiment.move(
                ExperimentState.STOPPED,
                reason=reason,
                ended_at=self.context.clock(),
                ended_by=by,
            )
            if await self.repo.save_experiment(stopped):
                journal.log_end(stopped)
                break
        experiment, _ = await self.rounds.advance(experiment_id)
        return experiment


def usual_name(config: Config) -> str:
    """Give the name of an experiment to which nobody gives one."""
    return f"{config.dataset} {config.model}"


def _require_noise(config: Config, layout: Layout) -> None:
    """Raise BadWeights if a tensor would stay without noise where there has to be some."""
    mechanism = mechanism_of(config)
    whole = [tensor.name for tensor in layout.tensors if tensor.dtype not in FLOATS]
    if mechanism.keeps_ledger and whole:
        raise BadWeights(
            f"Tensor {whole[0][:80]!r} has whole numbers, to which privacy {mechanism.name} adds "
            "no noise: leave it out of the model, as group norms instead of batch norms do.",
            code="privacy-refuses",
        )


def _require_trainable(config: Config) -> None:
    """Raise InvalidConfig unless the strategy suits the cohort, the quorum and the training."""
    strategy, invited = strategy_of(config), schedule_of(config).size(config)
    if strategy.reduction.weighs_all and invited > MAX_COMPARED:
        raise InvalidConfig(
            f"{strategy.name} compares each two updates of a round: it takes at most "
            f"{MAX_COMPARED} clients in a round, not {invited}."
        )
    if fault := strategy.fault(config.updates_to_close):
        raise InvalidConfig(
            f"{sentence(fault)} The quorum is the fewest updates that close a round, and it is "
            f"{config.updates_to_close}: raise it."
        )
    if schedule_of(config).max_age is not None and (fault := strategy.staleness_fault()):
        raise InvalidConfig(sentence(fault))
    if fault := strategy.training_fault(training_facts(config, 1)):
        raise InvalidConfig(sentence(fault))


async def _require_helper(context: Context, config: Config) -> None:
    """Raise InvalidConfig unless the coordinator's helper is the one that the settings name.

    Raises HelperUnavailable where it does not answer.
    """
    if context.helper is None:
        raise InvalidConfig(
            "secure_aggregation (helper) needs another operator's helper, and this coordinator has "
            "none: its operator sets FL_HELPER_URL and FL_HELPER_KEY."
        )
    key = (await context.helper.about()).get("key")
    if key != config.helper_key:
        raise InvalidConfig(
            f"helper_key ({config.helper_key}) is not the key of this coordinator's helper, which "
            f"shows {str(key)[:80]}. Ask its operator for the fingerprint."
        )
