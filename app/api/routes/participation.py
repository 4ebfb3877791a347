"""Routes of the clients."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Query, Request
from starlette.types import Receive

from app.api.bodies.clients import (
    agreement_body,
    commit_of,
    commit_of_facts,
    receipt_body,
    shard_body,
    subscriber_of,
    subscription_body,
    turn_body,
)
from app.api.bodies.parts import parts_of, plan_body
from app.api.edge import routing
from app.api.edge.auth import (
    Bearer,
    CallingClient,
    ExperimentId,
    Member,
    RoundNumber,
    Service,
    ShownCertificate,
    client_first,
    enrolment_key_first,
)
from app.api.edge.errors import responses
from app.api.edge.transfers import OCTETS, PartNumber, PartSha256, part_of
from serverless_fl.wire import agreement, parts, schema, turns
from serverless_fl.wire.bounds import MAX_ROUNDS

SUBSCRIBE_BYTES = 512 * 1024  # 1,000 facts and the sums of 500 columns take 400 KB

router = routing.router("/experiments/{experiment_id}", tags=["Take part"])


@router.get("/status", summary="Round status", responses=responses(401, 404, 422, 503))
async def get_status(
    request: Request,
    service: Service,
    client: CallingClient,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=turns.MAX_HOLD,
            description="Answer only after so many seconds, or as soon as the answer is no longer "
            "to wait in `round`; an answer to wait says how many seconds are accepted (`hold`)",
            examples=[20],
        ),
    ] = 0.0,
    round: Annotated[
        int | None,
        Query(
            ge=0, le=MAX_ROUNDS, description="The `round` of the last answer to wait", examples=[3]
        ),
    ] = None,
) -> turns.RoundStatus:
    """Tells the calling client to train now, to wait and ask again, or to stop asking."""
    turn = await service.turns.status(client, wait, round, partial(gone, request.receive))
    return turn_body(turn)


async def gone(receive: Receive) -> None:
    """Return when the caller has hung up, or has its answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


@router.post(
    "/clients",
    status_code=201,
    summary="Subscribe",
    responses=responses(401, 404, 409, 422, 503),
)
async def subscribe(
    service: Service,
    experiment_id: ExperimentId,
    key: Bearer,
    request: schema.Subscribe,
    certificate: ShownCertificate,
) -> schema.Subscription:
    """With the enrolment key a client claims a slot and gets a token of its own. Safe to repeat."""
    found = await service.enrolment.subscribe(
        experiment_id, key, subscriber_of(request, certificate)
    )
    return subscription_body(found)


routing.takes_body(router, enrolment_key_first, most=SUBSCRIBE_BYTES)


@router.get(
    "/agreement",
    summary="Terms for data of one's own",
    responses=responses(401, 404, 409, 422, 503),
)
async def get_agreement(
    service: Service, experiment_id: ExperimentId, _: Member
) -> agreement.AgreementView:
    """What a party's data must have in common with those of the others, and the normalisation that
    the parties' sums have fixed.
    """
    return agreement_body(await service.enrolment.terms(experiment_id))


@router.get("/shard", summary="Shard assignment", responses=responses(401, 404, 409, 422, 503))
async def get_shard(service: Service, client: CallingClient) -> schema.Shard:
    """Lists the indices of the calling client's random, disjoint part of the training set."""
    return shard_body(await service.enrolment.shard(client))


@router.put(
    "/label-counts",
    status_code=204,
    summary="Share the counts of labels",
    responses=responses(401, 404, 409, 422, 503),
)
async def put_label_counts(
    service: Service, client: CallingClient, request: schema.LabelCounts
) -> None:
    """For a party that agrees to it, if the experiment asks (`label_counts`): everybody who sees
    the experiment's clients sees the counts. Other counts take their place, and empty ones take
    them back.
    """
    await service.labels.share(client, request.counts)


routing.takes_body(router, client_first)


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
    """Parts may be sent in any order, and repeatedly; a small model is one part. A part may be sent
    in gzip if the round status names it among `content_codings`: the SHA-256 is that of the
    unpacked bytes.
    """
    data = await part_of(request, service)
    await service.updates.store_part(client, number, part, sha256, data)
    return schema.PartReceipt(number=part, sha256=sha256, size=len(data))


routing.takes_body(router, client_first)


@router.put(
    "/rounds/{number}/update",
    summary="Upload an update",
    responses=responses(401, 404, 409, 422, 503),
    openapi_extra=OCTETS,
)
async def put_update(
    service: Service,
    client: CallingClient,
    number: RoundNumber,
    facts: Annotated[schema.UpdateFacts, Query()],
    request: Request,
) -> schema.UpdateReceipt:
    """A small update needs one request for its only part and its commit, if the round status says
    `at_once`. Gzip is accepted as for a part. Safe to repeat.
    """
    data = await part_of(request, service)
    update = await service.updates.commit(client, number, commit_of_facts(facts), data)
    return receipt_body(update)


routing.takes_body(router, client_first)


@router.post(
    "/rounds/{number}/update/parts",
    summary="Announce parts of an update",
    responses=responses(401, 404, 409, 422, 503),
)
async def announce_update_parts(
    service: Service, client: CallingClient, number: RoundNumber, request: parts.PartAnnouncements
) -> list[parts.PartPlan]:
    """Tells which parts are stored already, and where to send the others: so an interrupted upload
    continues.
    """
    plans = await service.updates.plan_parts(client, number, parts_of(request))
    return [plan_body(plan) for plan in plans]


routing.takes_body(router, client_first)


@router.post(
    "/rounds/{number}/update",
    summary="Commit an update",
    responses=responses(401, 404, 409, 422, 503),
)
async def commit_update(
    service: Service, client: CallingClient, number: RoundNumber, commit: schema.UpdateCommit
) -> schema.UpdateReceipt:
    """The coordinator checks the weights. A client's first accepted update of a round stands. Safe
    to repeat.
    """
    return receipt_body(await service.updates.commit(client, number, commit_of(commit)))


routing.takes_body(router, client_first, most=routing.LIST_BYTES)
