"""Serves model versions and kept updates, and takes evaluations of models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from app.service.clients.enrolment import require_part
from app.service.context import Context
from app.service.data.shards import require_examples
from app.service.files import stored
from app.service.reading.details import FilePart
from app.service.rounds.retention import with_evaluation
from app.store.port import DirectBlobs
from serverless_fl.domain.errors import Conflict, NotFound
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.records import (
    CENTRAL,
    Blob,
    Evaluation,
    ModelVersion,
    Update,
    client_id,
    slot_named,
)
from serverless_fl.privacy import mechanism_of


class Models:
    """The global models of an experiment. The records of all versions stay."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.repo = context.repo

    async def version(self, experiment_id: str, version: int | None) -> ModelVersion:
        """A model version that is kept, the newest for None. Raises NotFound."""
        experiment = await self.repo.experiment(experiment_id)
        model = await self._record(experiment, version)
        if not experiment.keeps(model.version):
            raise NotFound(
                f"Model version {model.version} is not kept any more: keep_models is "
                f"{experiment.config.keep_models}. {_kept(experiment)}",
                code="model-not-kept",
            )
        return model

    async def _record(self, experiment: Experiment, version: int | None) -> ModelVersion:
        """Raises NotFound."""
        newest = experiment.model_version
        if newest is None:
            raise NotFound("The experiment's initial model has not been uploaded yet.")
        wanted = newest if version is None else version
        model = await self.repo.model(experiment.id, wanted) if wanted <= newest else None
        if model is None:
            raise NotFound(f"There is no model version {wanted}; the newest is {newest}.")
        return model

    async def update(self, experiment_id: str, number: int, slot: int) -> Update:
        """A kept update. Raises NotFound."""
        experiment = await self.repo.experiment(experiment_id)
        round_ = await self.repo.round(experiment_id, number)
        attempt = round_.updates_attempt if round_ else 0
        update = await self.repo.update(experiment_id, number, slot, attempt)
        blobs = self.context.blobs
        if update is None or update.blob.key(0) not in await blobs.sizes(update.blob.key(0)):
            raise NotFound(
                f"There is no update of {client_id(slot)} for round {number}, or it is not kept "
                f"any more (keep_updates is {experiment.config.keep_updates})."
            )
        return update

    async def read(self, blob: Blob, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes [start, stop) of a file, a part at a time.

        Raises NotFound if a part is gone, and StoreUnavailable.
        """
        try:
            async for piece in stored.read(self.context.blobs, blob, start, stop):
                yield piece
        except stored.Gone as error:
            raise NotFound(
                "The file is no longer in the store of weights: the coordinator's operator may "
                "have a copy of it.",
                code="file-gone",
            ) from error

    async def compressed(self, experiment_id: str, version: int) -> tuple[ModelVersion, Blob]:
        """A version and its compressed model. Raises NotFound."""
        model = await self.version(experiment_id, version)
        if model.compressed is None:
            raise NotFound("Clients download the model itself: download_encoding is weights.")
        return model, model.compressed

    async def state(self, experiment_id: str, version: int, name: str) -> tuple[ModelVersion, Blob]:
        """A version and an array of its strategy's state. Raises NotFound."""
        model = await self.version(experiment_id, version)
        if name not in model.state:
            raise NotFound(
                f"Model version {version} has no state {name[:40]!r}; it has "
                f"{', '.join(model.state) or 'none'}."
            )
        return model, model.state[name]

    async def noise_secret(self, experiment_id: str) -> bytes:
        """The secret of which the noise is drawn. Raises NotFound, and Conflict without noise."""
        experiment = await self.repo.experiment(experiment_id)
        if not mechanism_of(experiment.config).keeps_ledger:
            raise Conflict(
                f"Privacy {experiment.config.privacy.name} adds no noise, so it has no secret."
            )
        return await self.repo.secret(experiment_id)

    async def parts(self, blob: Blob, first: int, limit: int) -> list[FilePart]:
        """Up to `limit` parts of a file from number `first` on, each with its URL if it has one."""
        blobs = self.context.blobs
        return [
            FilePart(
                number=number,
                sha256=blob.parts[number],
                size=blob.sizes[number],
                url=(await blobs.sign_get(blob.key(number))).url
                if isinstance(blobs, DirectBlobs)
                else None,
            )
            for number in range(first, min(first + limit, len(blob.parts)))
        ]

    async def evaluate(
        self,
        experiment_id: str,
        version: int,
        source: str,
        num_examples: int,
        metrics: dict[str, float],
        *,
        by: str = "admin",
    ) -> Evaluation:
        """Store what `source`, a client's id or "central", has measured; the first report stands.

        `by` is the name of the caller.

        The model's file may be deleted by now. Raises NotFound, Conflict, Revoked, and BadWeights
        if a client reports more examples than it has.
        """
        experiment = await self.repo.experiment(experiment_id)
        await self._record(experiment, version)
        if (slot := slot_named(source)) is not None:
            require_part(experiment, slot)
            client = await self.repo.client(experiment_id, slot)
            if client is None:
                raise NotFound(f"There is no {source} in this experiment.")
            require_examples(experiment, client, num_examples)
        evaluation = Evaluation(
            experiment_id=experiment_id,
            version=version,
            source=source,
            num_examples=num_examples,
            metrics=metrics,
            received_at=self.context.clock(),
            reported_by=by if source == CENTRAL else "",
        )
        added = await self.repo.add_evaluation(evaluation)
        standing = (
            evaluation if added else await self.repo.evaluation(experiment_id, version, source)
        )
        said = num_examples, metrics
        if standing is None or (standing.num_examples, standing.metrics) != said:
            raise Conflict(
                f"Another evaluation of model {version} by {source} stands.",
                code="already-evaluated",
            )
        if source == CENTRAL:
            await self._note_best(experiment_id, version, standing.metrics)
        return standing

    async def _note_best(
        self, experiment_id: str, version: int, metrics: Mapping[str, float]
    ) -> None:
        """Keep the version if it is the best. After a crash here, a repeated report does it."""
        while True:
            experiment = await self.repo.experiment(experiment_id)
            found = with_evaluation(experiment, version, metrics)
            if found == experiment or await self.repo.save_experiment(found):
                return


def _kept(experiment: Experiment) -> str:
    best = ", ".join(str(v) for v in sorted(experiment.best_models) if v < experiment.models_from)
    return (
        f"There are 0, {f'the best ({best}), ' if best else ''}and those from "
        f"{experiment.models_from} on."
    )
