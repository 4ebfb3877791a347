"""Authentication: bearer keys and tokens, as FastAPI dependencies."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope

from app.service.coordinator import Coordinator
from app.telemetry import ids
from serverless_fl.domain.errors import Unauthenticated
from serverless_fl.domain.records import CENTRAL, Client
from serverless_fl.wire.bounds import MAX_ROUNDS

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="The admin key, an experiment's enrolment key, or a client's token.",
)
# This dependency serves only the OpenAPI document; `secret_of` reads the header.
Declared = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
EXPERIMENT = re.compile(r"[0-9a-z-]{1,40}")
ExperimentId = Annotated[
    str, Path(pattern=f"^{EXPERIMENT.pattern}$", examples=["20261124-101500-9f2c1a"])
]
RoundNumber = Annotated[int, Path(ge=1, le=MAX_ROUNDS, examples=[3])]


async def coordinator(request: Request) -> Coordinator:
    found: Coordinator = request.app.state.coordinator
    return found


Service = Annotated[Coordinator, Depends(coordinator)]


def secret_of(scope: Scope) -> str | None:
    """Give the key or token of a request (RFC 6750, section 2.1); None if it has none.

    Only this function reads the header. Everything after the scheme belongs to the token, so extra
    text makes it another token.
    """
    for name, value in scope["headers"]:
        if name == b"authorization":  # the guard refuses a request with two of them
            scheme, _, rest = value.partition(b" ")
            return (
                rest.strip(b" ").decode("latin-1") or None if scheme.lower() == b"bearer" else None
            )
    return None


def require_secret(scope: Scope) -> str:
    """Give the key or token of a request. Raises Unauthenticated if it has none."""
    secret = secret_of(scope)
    if secret is None:
        raise Unauthenticated("Send a key or token: `Authorization: Bearer ...`.")
    return secret


async def bearer(request: Request, _: Declared) -> str:
    return require_secret(request.scope)


Bearer = Annotated[str, Depends(bearer)]


async def admin(service: Service, secret: Bearer) -> str:
    return admin_of(service, secret)


def admin_of(service: Coordinator, secret: str) -> str:
    """Give the admin's name for the records. Raises Unauthenticated for any other key."""
    name = service.admin_keys.caller(secret)
    if name is None:
        raise Unauthenticated("This needs the admin key (FL_ADMIN_KEY of the coordinator).")
    return name


Admin = Depends(admin)
AdminCaller = Annotated[str, Admin]


async def client(
    request: Request, service: Service, experiment_id: ExperimentId, secret: Bearer
) -> Client:
    return await client_of(request.scope, service, experiment_id, secret)


async def client_of(scope: Scope, service: Coordinator, experiment_id: str, secret: str) -> Client:
    """Look up the client of a token, once a request. Raises Unauthenticated."""
    state = scope.setdefault("state", {})
    known: tuple[str, Client] | None = state.get("client")
    if known is not None and known[0] == secret and known[1].experiment_id == experiment_id:
        return known[1]
    found = await service.enrolment.client_of(experiment_id, secret)
    ids.note(client=found.id)
    state["client_proven"] = True  # the guard gives its token a rate of its own
    state["client"] = (secret, found)
    return found


CallingClient = Annotated[Client, Depends(client)]


async def member(
    request: Request, service: Service, experiment_id: ExperimentId, secret: Bearer
) -> str:
    return await member_of(request.scope, service, experiment_id, secret)


async def member_of(scope: Scope, service: Coordinator, experiment_id: str, secret: str) -> str:
    """Accept any key or token of this experiment; give the name of its holder for evaluations.

    The name is `central` for the admin, a client's id, or empty for the enrolment key. Raises
    Unauthenticated, NotFound.
    """
    if service.admin_keys.caller(secret) is not None:
        await service.experiments.find(experiment_id)
        return CENTRAL
    if service.enrolment.is_token(secret):
        return (await client_of(scope, service, experiment_id, secret)).id
    await service.enrolment.require_enrolment_key(experiment_id, secret)
    return ""


Member = Annotated[str, Depends(member)]


# Checks of the key before the body is read (docs/decisions/0025). FastAPI alone would read the body
# first.


async def admin_first(scope: Scope) -> None:
    """Raise Unauthenticated unless the request has the admin key."""
    admin_of(_service(scope), require_secret(scope))


async def client_first(scope: Scope) -> None:
    """Raise Unauthenticated unless the request has a client's token."""
    secret = require_secret(scope)
    await client_of(scope, _service(scope), _experiment_of(scope), secret)


async def member_first(scope: Scope) -> None:
    """Raise Unauthenticated unless the request has a key or token of the experiment."""
    secret = require_secret(scope)
    await member_of(scope, _service(scope), _experiment_of(scope), secret)


async def enrolment_key_first(scope: Scope) -> None:
    """Raise Unauthenticated unless the request has the enrolment key."""
    secret = require_secret(scope)
    await _service(scope).enrolment.require_enrolment_key(_experiment_of(scope), secret)


async def token_first(scope: Scope) -> None:
    """Raise Unauthenticated unless the request has a token of an enrolled client.

    It may be an old token; the route decides together with the body.
    """
    secret = require_secret(scope)
    await _service(scope).enrolment.require_client_of(_experiment_of(scope), secret)


def _service(scope: Scope) -> Coordinator:
    found: Coordinator = scope["app"].state.coordinator
    return found


def _experiment_of(scope: Scope) -> str:
    """Give the experiment's id in the path. Raises RequestValidationError for a malformed id."""
    found: str = scope["path_params"]["experiment_id"]
    if not EXPERIMENT.fullmatch(found):
        fault = {"loc": ("path", "experiment_id"), "msg": "This is no id of an experiment"}
        raise RequestValidationError([fault])
    return found
