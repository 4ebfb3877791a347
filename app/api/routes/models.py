"""Routes that list models, download them, and take evaluations of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app.api.bodies.models import evaluation_body, file_part_body, model_body
from app.api.edge import routing
from app.api.edge.auth import ExperimentId, Member, Service, Viewers, member_first
from app.api.edge.errors import responses
from app.api.edge.transfers import WEIGHTS, weights_response
from serverless_fl.domain.errors import Forbidden
from serverless_fl.domain.records import ModelVersion
from serverless_fl.wire import parts, schema, views
from serverless_fl.wire.bounds import MAX_PARTS, MAX_ROUNDS

router = routing.router("/experiments", tags=["Models"])

FirstPart = Annotated[int, Query(ge=0, lt=MAX_PARTS)]
MostParts = Annotated[int, Query(ge=1, le=parts.MAX_ANNOUNCED)]
Version = Annotated[int, Path(ge=0, le=MAX_ROUNDS, examples=[10])]


@router.get(
    "/{experiment_id}/models",
    summary="List models",
    responses=responses(404, 422, 503),
    dependencies=[Viewers],
)
async def list_models(
    service: Service,
    experiment_id: ExperimentId,
    after: Annotated[
        int, Query(ge=-1, le=MAX_ROUNDS, description="Leave out the versions up to this one")
    ] = -1,
) -> list[views.ModelView]:
    """Lists every version with its hashes and its evaluations."""
    found = await service.views.models(experiment_id, after)
    return [model_body(m.model, m.evaluations, kept=m.kept) for m in found]


def version_header(model: ModelVersion) -> dict[str, str]:
    return {"X-Model-Version": str(model.version)}


@router.get(
    "/{experiment_id}/models/latest",
    summary="Download the newest model",
    response_class=Response,
    responses={**WEIGHTS, **responses(401, 403, 404, 416, 422, 503)},
)
async def download_latest(
    service: Service, experiment_id: ExperimentId, member: Member, request: Request
) -> Response:
    """As the download of a version by its number."""
    model = await service.models.version(experiment_id, None)
    return await weights_response(request, service, model.blob, **version_header(model))


@router.get(
    "/{experiment_id}/models/{version}",
    summary="Download a model version",
    response_class=Response,
    responses={**WEIGHTS, **responses(401, 403, 404, 416, 422, 503)},
)
async def download_model(
    service: Service,
    experiment_id: ExperimentId,
    version: Version,
    member: Member,
    request: Request,
) -> Response:
    """For admins, the owner, readers, holders of the enrolment key, and clients. Knows ETag and
    Range.
    """
    model = await service.models.version(experiment_id, version)
    return await weights_response(request, service, model.blob, **version_header(model))


@router.get(
    "/{experiment_id}/models/{version}/parts",
    summary="List the parts of a model's file",
    responses=responses(401, 403, 404, 422, 503),
)
async def list_model_parts(
    service: Service,
    experiment_id: ExperimentId,
    version: Version,
    member: Member,
    first: FirstPart = 0,
    limit: MostParts = parts.MAX_ANNOUNCED,
) -> list[views.ModelPart]:
    """Each part has a URL if the blob store answers clients itself (`direct`)."""
    model = await service.models.version(experiment_id, version)
    found = await service.models.parts(model.blob, first, limit)
    return [file_part_body(part) for part in found]


@router.post(
    "/{experiment_id}/models/{version}/evaluations",
    summary="Report an evaluation",
    responses=responses(401, 403, 404, 409, 422, 503),
)
async def report_evaluation(
    service: Service,
    experiment_id: ExperimentId,
    version: Version,
    member: Member,
    report: schema.EvaluationReport,
) -> views.EvaluationView:
    """A client evaluates on data of its own, an admin or the owner on a central test set."""
    if not member.source:
        raise Forbidden(
            "Readers report no evaluations: this needs the role admin, or the experiment's owner."
            if member.name
            else "An enrolment key cannot report evaluations: enrol, then use the token."
        )
    evaluation = await service.models.evaluate(
        experiment_id, version, member.source, report.num_examples, report.metrics, by=member.name
    )
    return evaluation_body(evaluation)


routing.takes_body(router, member_first)
