"""Routes of the clients."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from app.api.auth import Bearer, CallingClient, ExperimentId, Service
from app.api.bodies import OCTETS, PartNumber, PartSha256, part_of
from app.api.errors import responses
from app.wire import parts, schema

router = APIRouter(prefix="/experiments/{experiment_id}", tags=["Take part"])
RoundNumber = Annotated[int, Path(ge=1, le=10**6, examples=[3])]


@router.post(
    "/clients",
    status_code=201,
    summary="Subscribe",
    responses=responses(401, 404, 409, 422, 503),
)
async def subscribe(
    service: Service, experiment_id: ExperimentId, key: Bearer, request: schema.Subscribe
) -> schema.Subscription:
    """With the enrolment key: claim a slot and get a token of one's own. Safe to repeat."""
    return await service.enrolment.subscribe(experiment_id, key, request)


@router.get("/shard", summary="Shard assignment", responses=responses(401, 404, 422, 503))
async def get_shard(service: Service, client: CallingClient) -> schema.Shard:
    """The calling client's random, disjoint part of the training set, as indices."""
    return await service.enrolment.shard(client)


@router.get("/status", summary="Round status", responses=responses(401, 404, 422, 503))
async def get_status(service: Service, client: CallingClient) -> schema.RoundStatus:
    """What the calling client shall do: train now, wait and ask again, or stop asking."""
    return await service.participation.status(client)


@router.put(
    "/rounds/{number}/update/parts/{part}",
    summary="Upload a part of an update",
    responses=responses(401, 404, 409, 422, 503),
    openapi_extra=OCTETS,
)
async def put_update_part(
    service: Service,
    client: CallingClient,
    number: RoundNumber,
    part: PartNumber,
    sha256: PartSha256,
    request: Request,
) -> schema.PartReceipt:
    """Parts may come in any order and again; a small model is one part. In gzip they are unpacked,
    where the round status names it among `content_codings`: the SHA-256 is of what comes out.
    """
    data = await part_of(request, service)
    await service.participation.store_part(client, number, part, sha256, data)
    return schema.PartReceipt(number=part, sha256=sha256, size=len(data))


@router.post(
    "/rounds/{number}/update/parts",
    summary="Announce parts of an update",
    responses=responses(401, 404, 409, 422, 503),
)
async def announce_update_parts(
    service: Service, client: CallingClient, number: RoundNumber, request: parts.PartAnnouncements
) -> list[parts.PartPlan]:
    """Which are stored already, and where to bring the others: an interrupted upload goes on."""
    return await service.participation.plan_parts(client, number, request.parts)


@router.post(
    "/rounds/{number}/update",
    summary="Commit an update",
    responses=responses(401, 404, 409, 422, 503),
)
async def commit_update(
    service: Service, client: CallingClient, number: RoundNumber, commit: schema.UpdateCommit
) -> schema.UpdateReceipt:
    """Its weights are checked; the first accepted update of a round stands. Safe to repeat."""
    return await service.participation.commit(client, number, commit)
