"""Routes that revoke clients, replace keys and tokens, and show who did what."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from app.api.bodies.experiments import audit_body, client_body, enrolment_key_body
from app.api.edge.auth import (
    Bearer,
    ExperimentId,
    OwnerName,
    OwnersOnly,
    ReadersOnly,
    RoundViewers,
    Service,
    ShownCertificate,
    token_first,
)
from app.api.edge.errors import responses
from app.api.edge.routing import router, takes_body
from app.api.routes.experiments import IdempotencyKey
from serverless_fl.wire import schema, views

owned = router(
    "/experiments/{experiment_id}", tags=["Run an experiment"], dependencies=[OwnersOnly]
)
reading = router(
    "/experiments/{experiment_id}", tags=["Run an experiment"], dependencies=[ReadersOnly]
)
own = router("/experiments/{experiment_id}", tags=["Take part"])
routers = (owned, reading, own)


@owned.post(
    "/clients/{client_id}/revoke",
    summary="Revoke a client",
    responses=responses(401, 403, 404, 422, 503),
)
async def revoke_client(
    service: Service,
    experiment_id: ExperimentId,
    client_id: Annotated[str, Path(pattern=r"^client-[0-9]{2,7}$", examples=["client-07"])],
    by: OwnerName,
) -> views.ClientView:
    """The client's token stops working, no cohort includes it any more, and the open round does not
    wait for it. Its accepted updates stay, and no other client gets its slot. Safe to repeat.
    """
    return client_body(await service.access.revoke(experiment_id, client_id, by))


@owned.get(
    "/enrolment-key",
    summary="Show the enrolment key",
    responses=responses(401, 403, 404, 409, 422, 503),
)
async def show_enrolment_key(service: Service, experiment_id: ExperimentId) -> schema.EnrolmentKey:
    """Derives the key from the admin key and a secret salt; the store holds only a hash of it."""
    return enrolment_key_body(await service.access.enrolment_key(experiment_id))


@owned.post(
    "/enrolment-key",
    summary="Replace the enrolment key",
    responses=responses(401, 403, 404, 409, 422, 503),
)
async def replace_enrolment_key(
    service: Service,
    experiment_id: ExperimentId,
    by: OwnerName,
    idempotency_key: IdempotencyKey = None,
) -> schema.EnrolmentKey:
    """The present key stops working. Enrolled clients stay enrolled."""
    found = await service.access.replace_enrolment_key(experiment_id, idempotency_key, by)
    return enrolment_key_body(found)


@owned.get(
    "/noise-secret",
    summary="Show the secret of the noise",
    responses=responses(401, 403, 404, 409, 422, 503),
)
async def show_noise_secret(service: Service, experiment_id: ExperimentId) -> views.NoiseSecret:
    """`verify` recomputes the noise of models with it. Whoever has it can take the noise off."""
    return views.NoiseSecret(secret=(await service.models.noise_secret(experiment_id)).hex())


@reading.get(
    "/audit",
    summary="Read the audit log",
    responses=responses(401, 403, 404, 422, 503),
    dependencies=[RoundViewers],
)
async def read_audit_log(
    service: Service,
    experiment_id: ExperimentId,
    after: Annotated[
        str, Query(max_length=60, description="The `cursor` of the previous page's last event")
    ] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[views.AuditEvent]:
    """Lists who did what, and when; oldest first. For the owner, admins and readers; where the
    cohorts are secret, for the owner and admins.
    """
    return [audit_body(e) for e in await service.audit.events(experiment_id, after, limit)]


@own.post("/token", summary="Replace a token", responses=responses(401, 404, 422, 503))
async def replace_token(
    service: Service,
    experiment_id: ExperimentId,
    token: Bearer,
    request: schema.ReplaceToken,
    certificate: ShownCertificate,
) -> schema.ReplacedToken:
    """A client whose token may have leaked sends that token, and its client key as the proof. The
    token stops working. Safe to repeat.
    """
    token = await service.access.replace_token(
        experiment_id, token, request.client_key, certificate
    )
    return schema.ReplacedToken(token=token)


takes_body(own, token_first)
