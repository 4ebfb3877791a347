"""Who calls: bearer keys and tokens, as FastAPI dependencies."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope

from app.domain.errors import Unauthenticated
from app.domain.records import Client
from app.service import Coordinator
from app.service.credentials import slot_of
from app.telemetry import ids

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="The admin key, an experiment's enrolment key, or a client's token.",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
ExperimentId = Annotated[
    str, Path(pattern=r"^[0-9a-z-]{1,40}$", examples=["20261124-101500-9f2c1a"])
]


async def coordinator(request: Request) -> Coordinator:
    found: Coordinator = request.app.state.coordinator
    return found


Service = Annotated[Coordinator, Depends(coordinator)]


async def bearer(credentials: Credentials) -> str:
    if credentials is None:
        raise Unauthenticated("Send a key or token: `Authorization: Bearer ...`.")
    return credentials.credentials


Bearer = Annotated[str, Depends(bearer)]


async def admin(service: Service, secret: Bearer) -> str:
    """The name under which the admin is noted."""
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
    """The client whose token this is. Raises Unauthenticated."""
    found = await service.enrolment.client_of(experiment_id, secret)
    ids.note(client=found.id)
    scope.setdefault("state", {})["client_proven"] = True  # its token has a rate of its own
    return found


CallingClient = Annotated[Client, Depends(client)]


async def member(
    request: Request, service: Service, experiment_id: ExperimentId, secret: Bearer
) -> str:
    """Anyone with a key to this experiment; gives the name under which they evaluate."""
    if service.admin_keys.caller(secret) is not None:
        await service.context.repo.experiment(experiment_id)
        return "central"
    if slot_of(secret) is not None:
        return (await client(request, service, experiment_id, secret)).id
    await service.enrolment.require_enrolment_key(experiment_id, secret)
    return ""


Member = Annotated[str, Depends(member)]
