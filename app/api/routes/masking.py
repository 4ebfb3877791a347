"""Routes of secure aggregation: what clients send before and after the training of a round."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response

from app.api.bodies.masking import (
    answer_of,
    boxes_of,
    confirmation_of,
    keys_of,
    masking_body,
    receipt_body,
)
from app.api.edge import routing
from app.api.edge.auth import (
    CallingClient,
    ExperimentId,
    OwnersOnly,
    RoundNumber,
    Service,
    client_first,
)
from app.api.edge.errors import responses
from serverless_fl.wire import masking

router = routing.router("/experiments/{experiment_id}", tags=["Take part"])


@router.get(
    "/rounds/{number}/masking",
    summary="The round's secure aggregation",
    responses=responses(401, 404, 422, 503),
)
async def get_masking(
    service: Service, client: CallingClient, number: RoundNumber
) -> masking.MaskingView:
    """What a client needs to mask its update, and to help to unmask the sum: who takes part, with
    which keys, and the boxes that the calling client can open.
    """
    return masking_body(await service.maskings.read(client.experiment_id, number, client))


@router.get(
    "/rounds/{number}/unmasking",
    summary="What a masked round was unmasked with",
    responses=responses(401, 403, 404, 422, 503),
    dependencies=[OwnersOnly],
)
async def get_unmasking(
    service: Service, experiment_id: ExperimentId, number: RoundNumber
) -> masking.MaskingView:
    """The shares that clients handed in, with which `verify` recomputes the model. They open the
    sum, and no single update.
    """
    return masking_body(await service.maskings.read(experiment_id, number, None))


@router.get(
    "/rounds/{number}/helper-words",
    summary="What the helper adds to a masked sum",
    response_class=Response,
    responses=responses(401, 403, 404, 409, 422, 503)
    | {200: {"content": {"application/octet-stream": {}}}},
    dependencies=[OwnersOnly],
)
async def get_helper_words(
    service: Service,
    experiment_id: ExperimentId,
    number: RoundNumber,
    first: Annotated[int, Query(ge=0, le=2**40)],
    count: Annotated[int, Query(ge=1, le=masking.MAX_WORDS)],
) -> Response:
    """Words, little-endian, with which `verify` recomputes the model: at most `count` from the
    place `first` on. The coordinator asks the helper for them again.
    """
    words = await service.maskings.helper_words(experiment_id, number, first, count)
    return Response(words, media_type="application/octet-stream")


@router.post(
    "/rounds/{number}/masking/keys",
    summary="Send keys",
    responses=responses(401, 404, 409, 422, 503),
)
async def post_keys(
    service: Service, client: CallingClient, number: RoundNumber, request: masking.ProvenKeys
) -> masking.PhaseReceipt:
    """Takes the public keys that the client has made for this attempt, and its signature under
    them if it has an identity. Safe to repeat.
    """
    keys = keys_of(client.slot, request)
    return receipt_body(await service.maskings.add_keys(client, number, request.attempt, keys))


routing.takes_body(router, client_first)


@router.post(
    "/rounds/{number}/masking/boxes",
    summary="Share secrets out",
    responses=responses(401, 404, 409, 422, 503),
)
async def post_boxes(
    service: Service, client: CallingClient, number: RoundNumber, request: masking.PhaseBoxes
) -> masking.PhaseReceipt:
    """Takes a box for each of the client's neighbours, which only that one can open. Safe to
    repeat.
    """
    boxes = boxes_of(client.slot, request)
    return receipt_body(await service.maskings.add_boxes(client, number, request.attempt, boxes))


routing.takes_body(router, client_first, most=routing.LIST_BYTES)


@router.post(
    "/rounds/{number}/masking/confirmation",
    summary="Sign who is in the sum",
    responses=responses(401, 404, 409, 422, 503),
)
async def post_confirmation(
    service: Service, client: CallingClient, number: RoundNumber, request: masking.PhaseConfirmation
) -> masking.PhaseReceipt:
    """Takes the client's signature under the list of those whose updates are in the sum, so that
    the others see that all were shown the same list. Safe to repeat.
    """
    sent = confirmation_of(client.slot, request)
    return receipt_body(
        await service.maskings.add_confirmation(client, number, request.attempt, sent)
    )


routing.takes_body(router, client_first)


@router.post(
    "/rounds/{number}/masking/answer",
    summary="Hand shares in",
    responses=responses(401, 404, 409, 422, 503),
)
async def post_answer(
    service: Service, client: CallingClient, number: RoundNumber, request: masking.PhaseAnswer
) -> masking.PhaseReceipt:
    """Takes the client's shares of the seeds of those whose updates are in the sum, and of the keys
    of those who were lost. Safe to repeat.
    """
    answer = answer_of(client.slot, request)
    return receipt_body(await service.maskings.add_answer(client, number, request.attempt, answer))


routing.takes_body(router, client_first, most=routing.LIST_BYTES)
