"""Routes of a coordinator in the role `helper`: another coordinator calls them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Response
from starlette.types import Scope

from app.api.bodies.helper import sealed_of
from app.api.edge import routing
from app.api.edge.auth import Declared, require_secret
from app.api.edge.errors import responses
from app.service.helper.service import HelperService
from serverless_fl.domain.errors import Unauthenticated
from serverless_fl.wire import masking

router = routing.router("/helper", tags=["Help"])


async def service_of(request: Request) -> HelperService:
    found: HelperService = request.app.state.coordinator
    return found


Service = Annotated[HelperService, Depends(service_of)]


async def helper_first(scope: Scope) -> None:
    """Raise Unauthenticated unless the request has the key of the coordinator that may call."""
    service: HelperService = scope["app"].state.coordinator
    if service.admin_keys.caller(require_secret(scope)) is None:
        raise Unauthenticated("This needs the helper's key (its FL_ADMIN_KEY).")


@router.get("", summary="The helper's key", responses=responses(503))
async def get_helper(service: Service) -> masking.HelperView:
    """The public key, and what the helper asks of a sum."""
    helper = service.helping.helper
    return masking.HelperView(
        key=helper.key.hex(), fewest=helper.fewest, pinned=helper.pins is not None
    )


@router.post(
    "/words",
    summary="Take the masks off a sum",
    response_class=Response,
    responses=responses(401, 409, 422, 503) | {200: {"content": {"application/octet-stream": {}}}},
)
async def post_words(service: Service, _: Declared, asked: masking.SumOfMasks) -> Response:
    """Words, little-endian, which take the masks off a sum of updates when they are added to it:
    as many as asked for, or the first of them. The helper opens one sum of a round, and remembers
    which before it answers; for that one it gives the same words each time.
    """
    words = await service.helping.words(
        bytes.fromhex(asked.helper), sealed_of(asked), asked.sequence, asked.first, asked.count
    )
    return Response(words, media_type="application/octet-stream")


routing.takes_body(router, helper_first, most=routing.LIST_BYTES)
