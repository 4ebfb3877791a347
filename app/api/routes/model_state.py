"""Routes of the strategy's state, which is versioned with the model."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request, Response

from app.api.bodies.models import file_part_body
from app.api.edge import routing
from app.api.edge.auth import ExperimentId, Member, Service
from app.api.edge.errors import responses
from app.api.edge.transfers import WEIGHTS, weights_response
from app.api.routes.models import FirstPart, MostParts, Version, version_header
from serverless_fl.wire import parts, views
from serverless_fl.wire.bounds import StateName

router = routing.router("/experiments", tags=["Models"])

Name = Annotated[StateName, Path(examples=["first_moment"])]


@router.get(
    "/{experiment_id}/models/{version}/state/{name}",
    summary="Download an array of the strategy's state",
    response_class=Response,
    responses={**WEIGHTS, **responses(401, 404, 416, 422, 503)},
)
async def download_state(
    service: Service,
    experiment_id: ExperimentId,
    version: Version,
    name: Name,
    member: Member,
    request: Request,
) -> Response:
    """A file with the model's tensors. Version 0 has none. Knows ETag and Range."""
    model, file = await service.models.state(experiment_id, version, name)
    return await weights_response(request, service, file, **version_header(model))


@router.get(
    "/{experiment_id}/models/{version}/state/{name}/parts",
    summary="List the parts of an array of the strategy's state",
    responses=responses(401, 404, 422, 503),
)
async def list_state_parts(
    service: Service,
    experiment_id: ExperimentId,
    version: Version,
    name: Name,
    member: Member,
    first: FirstPart = 0,
    limit: MostParts = parts.MAX_ANNOUNCED,
) -> list[views.ModelPart]:
    """As the parts of the model itself."""
    _, file = await service.models.state(experiment_id, version, name)
    return [file_part_body(part) for part in await service.models.parts(file, first, limit)]
