"""Authentication: bearer keys and tokens, as FastAPI dependencies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope

from app.api.edge.certificates import ClientCertificates
from app.service.coordinator import Coordinator, Person, require_certificate
from app.telemetry import ids
from serverless_fl.domain.errors import Forbidden, NotFound, Unauthenticated
from serverless_fl.domain.experiment import Experiment
from serverless_fl.domain.records import CENTRAL, Client, ClientCertificate
from serverless_fl.wire.bounds import MAX_ROUNDS

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="The admin key, a person's key (FL_KEYS) or token (FL_OIDC_ISSUER), an "
    "experiment's enrolment key, or a client's token.",
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


async def person_of(scope: Scope, service: Coordinator, secret: str) -> Person:
    """Find the person whose key or token this is.

    Raises Unauthenticated, Forbidden for a token without a role, IssuerUnavailable.
    """
    found = await _known_person(scope, service, secret)
    if found is None:
        raise Unauthenticated(
            "This needs a person's key: the admin key (FL_ADMIN_KEY of the coordinator), or a key "
            "or token that its operator takes (FL_KEYS, FL_OIDC_ISSUER)."
        )
    return found


async def _known_person(scope: Scope, service: Coordinator, secret: str) -> Person | None:
    """Look up a person, once a request."""
    state = scope.setdefault("state", {})
    known: tuple[str, Person | None] | None = state.get("person")
    if known is None or known[0] != secret:
        known = state["person"] = (secret, await service.people.find(secret))
        ids.note(person=None if known[1] is None else known[1].name)
    return known[1]


async def person(request: Request, service: Service, secret: Bearer) -> Person:
    return await person_of(request.scope, service, secret)


CallingPerson = Annotated[Person, Depends(person)]


async def creator(caller: CallingPerson) -> str:
    """Give the name of a person that may create experiments. Raises Forbidden."""
    caller.require_creator()
    return caller.name


CreatorName = Annotated[str, Depends(creator)]


async def owner(
    request: Request, service: Service, experiment_id: ExperimentId, secret: Bearer
) -> str:
    """Give the name of an admin or of the experiment's owner."""
    return await owner_of(request.scope, service, experiment_id, secret)


async def owner_of(scope: Scope, service: Coordinator, experiment_id: str, secret: str) -> str:
    """Give the name of a person that may do everything in the experiment.

    Raises Unauthenticated, Forbidden, NotFound.
    """
    found = await person_of(scope, service, secret)
    if not found.is_admin:
        try:
            found.require_owner(await service.experiments.find(experiment_id))
        except NotFound:  # the deletion of an owner is safe to repeat, as an admin's is
            if not await service.deletion.was_by(experiment_id, found.name):
                raise
    return found.name


OwnersOnly = Depends(owner)
OwnerName = Annotated[str, OwnersOnly]


async def reader(
    request: Request, service: Service, experiment_id: ExperimentId, secret: Bearer
) -> None:
    """Let people through that may see everything of the experiment. Raises Forbidden."""
    found = await person_of(request.scope, service, secret)
    if not found.is_admin:
        found.require_reader(await service.experiments.find(experiment_id))


ReadersOnly = Depends(reader)


async def client(
    request: Request, service: Service, experiment_id: ExperimentId, secret: Bearer
) -> Client:
    return await client_of(request.scope, service, experiment_id, secret)


async def client_of(scope: Scope, service: Coordinator, experiment_id: str, secret: str) -> Client:
    """Look up the client of a token, once a request.

    Raises Unauthenticated, and Forbidden if it does not show its certificate.
    """
    state = scope.setdefault("state", {})
    known: tuple[str, Client] | None = state.get("client")
    if known is not None and known[0] == secret and known[1].experiment_id == experiment_id:
        return known[1]
    found = await service.enrolment.client_of(experiment_id, secret)
    certificates: ClientCertificates = scope["app"].state.certificates
    require_certificate(found, certificates.of(scope), required=certificates.required)
    ids.note(client=found.id)
    state["client_proven"] = True  # the guard gives its token a rate of its own
    state["client"] = (secret, found)
    return found


async def certificate(request: Request) -> ClientCertificate | None:
    """Give the certificate that the caller shows. Raises Forbidden."""
    certificates: ClientCertificates = request.app.state.certificates
    return certificates.of(request.scope)


ShownCertificate = Annotated[ClientCertificate | None, Depends(certificate)]
CallingClient = Annotated[Client, Depends(client)]


@dataclass(frozen=True)
class MemberCaller:
    """A holder of any key or token of an experiment.

    `source` is the name under which it reports evaluations: `central` for an owner, a client's id,
    or empty for somebody who may report none. `name` stands in records.
    """

    source: str
    name: str


async def member(
    request: Request, service: Service, experiment_id: ExperimentId, secret: Bearer
) -> MemberCaller:
    return await member_of(request.scope, service, experiment_id, secret)


async def member_of(
    scope: Scope, service: Coordinator, experiment_id: str, secret: str
) -> MemberCaller:
    """Accept any key or token of this experiment, and readers.

    Raises Unauthenticated, Forbidden, NotFound.
    """
    if service.enrolment.is_token(secret):
        found = await client_of(scope, service, experiment_id, secret)
        return MemberCaller(found.id, found.id)
    person = await _known_person(scope, service, secret)
    if person is None:
        await service.enrolment.require_enrolment_key(experiment_id, secret)
        return MemberCaller("", "")
    experiment = await service.experiments.find(experiment_id)
    person.require_reader(experiment)
    return MemberCaller(CENTRAL if person.owns(experiment) else "", person.name)


Member = Annotated[MemberCaller, Depends(member)]


async def viewer(request: Request, service: Service) -> None:
    """Let everybody look, unless the operator has closed the views (FL_PUBLIC_VIEWS).

    Then people look, and the members of an experiment at that experiment. Raises Unauthenticated,
    NotFound.
    """
    scope = request.scope
    if request.app.state.public_views:
        return
    secret = secret_of(scope)
    if secret is None:
        raise Unauthenticated(
            "This coordinator shows its experiments to people with a key, and each to its members "
            "(FL_PUBLIC_VIEWS): enter a key, or send it as `Authorization: Bearer ...`."
        )
    if "experiment_id" not in scope["path_params"]:
        await person_of(scope, service, secret)
    elif await _known_person(scope, service, secret) is None:
        await member_of(scope, service, _experiment_of(scope), secret)


Viewers = Depends(viewer)


async def may_see_rounds(scope: Scope, service: Coordinator, experiment: Experiment) -> bool:
    """Say whether the caller may be shown who takes part in the rounds of an experiment.

    Of secret cohorts, those may who may read the secret: an admin, and the experiment's owner.
    """
    if not experiment.config.secret_cohorts:
        return True
    secret = secret_of(scope)
    if secret is None or service.enrolment.is_token(secret):
        return False
    found = await _known_person(scope, service, secret)
    return found is not None and found.owns(experiment)


async def round_viewer(request: Request, service: Service, experiment_id: ExperimentId) -> None:
    """Raise Forbidden if the caller must not be shown the rounds of an experiment."""
    experiment = await service.experiments.find(experiment_id)
    if not await may_see_rounds(request.scope, service, experiment):
        raise Forbidden(
            "Who takes part in the rounds of this experiment is secret (its selection), so they "
            "are shown to the admin and the experiment's owner: send such a key.",
            code="secret-cohorts",
        )


RoundViewers = Depends(round_viewer)


def declare_callers(app: FastAPI, *, issuer: str, public_views: bool) -> None:
    """Declare in the OpenAPI document whom the operator lets in besides the holders of keys.

    `issuer` gives tokens to people. Without `public_views` the views need a key, too. Clients may
    show certificates, or have to, as `app.state.certificates` says.
    """
    certificates: ClientCertificates = app.state.certificates
    build = app.openapi

    def openapi() -> dict[str, Any]:
        document = build()
        if issuer:
            document["components"]["securitySchemes"]["issuer"] = {
                "type": "openIdConnect",
                "openIdConnectUrl": f"{issuer.rstrip('/')}/.well-known/openid-configuration",
                "description": "A person's token, sent as keys are: `Authorization: Bearer`.",
            }
        if certificates.form is not None:
            document["components"]["securitySchemes"]["certificate"] = {
                "type": "mutualTLS",
                "description": "A client's certificate, which the proxy checks and passes on.",
            }
        refusal = document["paths"]["/v1/me"]["get"]["responses"]["401"]
        for path, operations in document["paths"].items():
            for operation in operations.values():
                if not public_views and path.startswith("/v1/experiments"):
                    operation.setdefault("security", [{"key": []}])
                    operation["responses"].setdefault("401", refusal)
                if issuer and "Take part" not in operation["tags"] and "security" in operation:
                    operation["security"] = [{"key": []}, {"issuer": []}]
                if certificates.form is not None and "Take part" in operation["tags"]:
                    both: dict[str, list[str]] = {"key": [], "certificate": []}
                    alone = [] if certificates.required else operation["security"]
                    operation["security"] = [*alone, both]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


# Checks of the key before the body is read (docs/decisions/0025). FastAPI alone would read the body
# first.


async def creator_first(scope: Scope) -> None:
    """Raise Unauthenticated or Forbidden unless the request's person may create experiments."""
    found = await person_of(scope, _service(scope), require_secret(scope))
    found.require_creator()


async def owner_first(scope: Scope) -> None:
    """Raise Unauthenticated or Forbidden unless the request is an admin's or the owner's."""
    secret = require_secret(scope)
    await owner_of(scope, _service(scope), _experiment_of(scope), secret)


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
