"""Routes of compressed models, which clients train from if `download_encoding` says so."""

from __future__ import annotations

from fastapi import Request, Response

from app.api.bodies.models import file_part_body
from app.api.edge import routing
from app.api.edge.auth import ExperimentId, Member, Service
from app.api.edge.errors import responses
from app.api.edge.transfers import WEIGHTS, weights_response
from app.api.routes.models import FirstPart, MostParts, Version, version_header
from serverless_fl.wire import parts, views

router = routing.router("/experiments", tags=["Models"])


@router.get(
    "/{experiment_id}/models/{version}/encoded",
    summary="Download a compressed model",
    response_class=Response,
    responses={**WEIGHTS, **responses(401, 404, 416, 422, 503)},
)
async def download_copy(
    service: Service,
    experiment_id: ExperimentId,
    version: Version,
    member: Member,
    request: Request,
) -> Response:
    """A version in the experiment's `download_encoding`. Knows ETag and Range."""
    model, compressed = await service.models.compressed(experiment_id, version)
    return await weights_response(request, service, compressed, **version_header(model))


@router.get(
    "/{experiment_id}/models/{version}/encoded/parts",
    summary="List the parts of a compressed model",
    responses=responses(401, 404, 422, 503),
)
async def list_copy_parts(
    service: Service,
    experiment_id: ExperimentId,
    version: Version,
    member: Member,
    first: FirstPart = 0,
    limit: MostParts = parts.MAX_ANNOUNCED,
) -> list[views.ModelPart]:
    """As the parts of the model itself."""
    _, compressed = await service.models.compressed(experiment_id, version)
    return [file_part_body(part) for part in await service.models.parts(compressed, first, limit)]
