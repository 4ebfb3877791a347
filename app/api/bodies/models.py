"""Bodies about model versions and evaluations, and about the parts of files."""

from __future__ import annotations

from collections.abc import Iterable

from app.api.bodies.common import time_of
from app.service.coordinator import FilePart
from serverless_fl.domain.records import Blob, Evaluation, ModelVersion, WeightsCommit
from serverless_fl.wire import schema, views


def model_body(
    model: ModelVersion, evaluations: Iterable[Evaluation] = (), *, kept: bool = True
) -> views.ModelView:
    """A model version with its hashes and evaluations."""
    encoded = model.compressed
    return views.ModelView(
        version=model.version,
        sha256=model.blob.sha256,
        size=model.blob.size,
        parent_sha256=model.parent_sha256,
        config_sha256=model.config_sha256,
        updates_sha256=model.updates_sha256,
        encoded=_info(encoded) if encoded else None,
        state={name: _info(file) for name, file in model.state.items()},
        ledger=views.LedgerView(**model.ledger.plain) if model.ledger else None,
        created_at=time_of(model.created_at),
        kept=kept,
        evaluations=[evaluation_body(evaluation) for evaluation in evaluations],
    )


def _info(file: Blob) -> schema.BlobInfo:
    return schema.BlobInfo(sha256=file.sha256, size=file.size)


def evaluation_body(evaluation: Evaluation) -> views.EvaluationView:
    """What somebody has measured of a model version."""
    return views.EvaluationView(
        source=evaluation.source, num_examples=evaluation.num_examples, metrics=evaluation.metrics
    )


def commit_of(body: schema.WeightsCommit) -> WeightsCommit:
    """The parts that make up the initial weights."""
    return WeightsCommit(sha256=body.sha256, parts=body.parts)


def file_part_body(part: FilePart) -> views.ModelPart:
    """A part of a model's file."""
    return views.ModelPart(number=part.number, sha256=part.sha256, size=part.size, url=part.url)
