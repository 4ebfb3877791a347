"""Checks an update that a client uploads, and bounds how far it may move the model."""

from __future__ import annotations

import base64
import math
from dataclasses import replace

from app.service.context import Context
from app.service.data.shards import require_examples
from app.service.files import stored
from app.service.files.announcements import Ledger
from app.service.files.uploads import Uploads, max_update_bytes, require_digest
from app.service.records import keys
from app.service.records.attempts import attempt_context
from app.store.port import STORE_OF_WEIGHTS
from serverless_fl.aggregation import strategy_of
from serverless_fl.aggregation.facts import facts_of, sentence, training_facts
from serverless_fl.aggregation.strategy import MAX_WEIGHT, Strategy
from serverless_fl.domain.errors import BadWeights, DigestMismatch, PartsMissing, StoreUnavailable
from serverless_fl.domain.experiment import Config, Experiment
from serverless_fl.domain.records import Client, ModelVersion, Update, UpdateCommit
from serverless_fl.domain.round import Round
from serverless_fl.privacy import mechanism_of
from serverless_fl.privacy.secure.context import Refused
from serverless_fl.schedule import schedule_of
from serverless_fl.weights.encodings import update_layout
from serverless_fl.weights.header import Layout


async def check_update(
    context: Context,
    experiment: Experiment,
    client: Client,
    number: int,
    commit: UpdateCommit,
    data: bytes | None = None,
    base: int | None = None,
) -> Update:
    """Check an update whose parts are stored, or whose one part is `data`. Returns its record.

    Stores `data` after the check. `base` is the version that the client trained from, if that is
    not the round's own. Raises BadWeights, TooLarge, PartsMissing, DigestMismatch and
    Conflict.
    """
    require_examples(experiment, client, commit.num_examples)
    layout = await context.repo.layout(experiment.id)
    companions = strategy_of(experiment.config).companions
    expected = update_layout(layout, experiment.config.sent_encoding, companions)
    prefix = keys.update_blob(experiment.id, number, client.slot)
    limit = max_update_bytes(expected.total_bytes)
    if data is not None:
        await require_digest(data, commit.sha256)
        blob, found = await stored.check_file(prefix, commit.sha256, data, limit, expected)
        ledger = Ledger.of_update(context.repo.documents, experiment.id, number, client.slot)
        await Uploads(context, prefix, limit, ledger).keep(0, commit.sha256, data)
    else:
        blob, found = await stored.commit(
            context.blobs,
            prefix,
            commit.sha256,
            commit.parts,
            limit=limit,
            expected=expected,
            part_bytes=context.limits.part_bytes,
            verified=not context.direct,
        )
    update = Update(
        experiment_id=experiment.id,
        round=number,
        slot=client.slot,
        blob=blob,
        offset=len(found.header),
        header="" if expected.same_order(found) else base64.b64encode(found.header).decode(),
        num_examples=commit.num_examples,
        declared=client.examples,
        metrics=commit.metrics,
        received_at=context.clock(),
        base_version=base,
        attempt=require_masked(experiment.config, commit),
        counts=commit.counts,
        seal=commit.seal,
    )
    config = experiment.config
    strategy, mechanism = strategy_of(config), mechanism_of(config)
    if fault := strategy.update_fault(facts_of(update), training_facts(config, number)):
        raise BadWeights(sentence(fault), code="strategy-refuses")
    if mechanism.needs_norm(config) or strategy.needs_norm:
        base_model = await context.repo.model(experiment.id, update.trained_from)
        assert base_model is not None  # noqa: S101  (the round before was closed with it)
        norm = await _norm(context, config, update, layout, base_model)
        scale = mechanism.share(norm, config, base_model.ledger)
        update = replace(update, norm=norm, scale=scale)
    share = schedule_of(config).share(number - 1 - update.trained_from)
    if share != 1.0:
        update = replace(update, scale=update.scale * share)
    _require_weight(strategy, update, config)
    return update


def require_masked(config: Config, commit: UpdateCommit) -> int:
    """Give the attempt of a masked update; 0 if the experiment's updates are not masked.

    Raises BadWeights for a commit of the other kind, and for one that says anything of its examples
    and metrics in the clear.
    """
    if not config.secure:
        if commit.attempt is None and not commit.counts and not commit.seal:
            return 0
        raise BadWeights("The updates of this experiment are not masked.", code="not-masked")
    digits = 16 * (1 + 2 * len(config.metrics_in_masks))
    hidden = commit.num_examples == 1 and not commit.metrics
    sealed = bool(commit.seal) == config.helped
    if commit.attempt and len(commit.counts) == digits and hidden and sealed:
        return commit.attempt
    seal = "a seal for the helper, " if config.helped else ""
    raise BadWeights(
        "The updates of this experiment are masked: an update has the attempt, masked counts of "
        f"{digits} digits, {seal}1 as the number of its examples, and no metrics.",
        code="not-masked",
    )


async def require_seal(
    context: Context, experiment: Experiment, round_: Round, update: Update
) -> None:
    """Raise BadWeights for a seal with which the helper could open no sum."""
    # Imported here: few experiments need the package of ciphers.
    from serverless_fl.privacy.secure.helper import Seal

    config = experiment.config
    try:
        seal = Seal.from_text(update.seal)
        attempt = await attempt_context(context.repo, experiment, round_)
        seal.require_sound(attempt, update.slot, bytes.fromhex(config.helper_key))
    except (ValueError, Refused) as error:
        raise BadWeights(f"The seal is not sound: {error}", code="not-sealed") from error
    if seal.fewest > config.clients_per_round:
        raise BadWeights(
            f"The seal asks for {seal.fewest} updates in a sum, and a round has "
            f"{config.clients_per_round} clients.",
            code="not-sealed",
        )


def _require_weight(strategy: Strategy, update: Update, config: Config) -> None:
    """Raise BadWeights unless the strategy can weigh the update.

    All updates of a round together weigh at most `MAX_WEIGHT`.
    """
    try:
        weight, most = strategy.weight(facts_of(update)), MAX_WEIGHT / config.clients
    except (ArithmeticError, ValueError):
        weight, most = math.nan, 0
    if not 0 < weight <= max(most, update.num_examples):
        raise BadWeights(
            f"The strategy {strategy.name} gives this update a weight of {weight:.4g}, which must "
            f"be above 0 and at most {most:.4g}: check its metrics.",
            code="strategy-refuses",
        )


async def _norm(
    context: Context, config: Config, update: Update, layout: Layout, base: ModelVersion
) -> float:
    """The update's distance from its base model. Raises PartsMissing, StoreUnavailable."""
    # These import NumPy, which a process that only answers polls never needs.
    from app.service.files.readers import base_reader, distance, update_reader
    from serverless_fl.weights import spans

    blobs = context.blobs
    start = base_reader(blobs, base, layout, config.download_encoding)
    try:
        return await distance(
            update_reader(blobs, update, layout, config.sent_encoding, start),
            start,
            spans.cut(layout, context.limits.part_bytes),
        )
    except (stored.Gone, DigestMismatch) as error:
        if update.blob.prefix in str(error):
            raise PartsMissing(
                "The parts changed while they were read: send them again."
            ) from error
        raise StoreUnavailable(
            f"The base model is gone or damaged: {error}", store=STORE_OF_WEIGHTS
        ) from error
