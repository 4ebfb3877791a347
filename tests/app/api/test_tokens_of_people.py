"""People who call by an issuer's tokens: which roles they get, and under which name."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from openapi_spec_validator import validate

from app.config import BadSettings, Settings, read_settings
from app.main import create_app
from app.service.coordinator import Coordinator
from app.store.oidc import OidcIssuer
from tests.support.federation import ADMIN_KEY, config
from tests.support.issuer import AUDIENCE, Issuer
from tests.support.plain_http import bearer


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    found = Issuer()
    yield found
    found.close()


@pytest.fixture
def call(federation, issuer):
    """Calls /v1/me with a token, under settings of the operator."""

    async def me(token: str, **settings: str):
        claims = Settings(**settings).claim_names
        reader = OidcIssuer(issuer.url, AUDIENCE, seconds=60)
        context = federation.app.state.coordinator.context
        federation.app.state.coordinator = Coordinator(
            context, ADMIN_KEY, issuer=reader, claims=claims
        )
        answer = await federation.http.get("/v1/me", headers=bearer(token))
        return answer.status_code, answer.json()

    return me


async def test_roles_stand_for_themselves(issuer, call):
    found = await call(issuer.token(roles=["owner", "reader", "cook"]))
    assert found == (200, {"name": "oidc:alice", "roles": ["owner", "reader"]})
    found = await call(issuer.token(roles="reader cook"))
    assert found == (200, {"name": "oidc:alice", "roles": ["reader"]})


async def test_the_operator_names_claims_and_values(issuer, call):
    settings = {
        "oidc_name_claim": "email",
        "oidc_roles_claim": "realm_access.roles",
        "oidc_roles": "fl-team=owner+reader, fl-admins=admin",
    }
    token = issuer.token(email="a@example.org", realm_access={"roles": ["fl-team"]})
    found = await call(token, **settings)
    assert found == (200, {"name": "oidc:a@example.org", "roles": ["owner", "reader"]})
    token = issuer.token(email="a@example.org", realm_access={"roles": ["owner"]})
    assert (await call(token, **settings))[0] == 403
    address = "https://fl.example.org/roles"
    token = issuer.token(**{address: ["admin"]})
    assert (await call(token, oidc_roles_claim=address))[1]["roles"] == ["admin"]


@pytest.mark.parametrize("roles", [None, [], ["cook"], {"owner": True}, 7, [["owner"]]])
async def test_a_token_without_a_role_may_do_nothing(issuer, call, roles):
    status, problem = await call(issuer.token(roles=roles))
    assert (status, problem["code"]) == (403, "role-missing")
    assert "must have one of admin, owner, reader" in problem["detail"]


@pytest.mark.parametrize("name", [None, "", "  ", "two\nlines", "a" * 201])
async def test_a_token_without_a_usable_name_is_refused(issuer, call, name):
    status, problem = await call(issuer.token(sub=name, roles=["admin"]))
    assert (status, problem["code"]) == (401, "unauthenticated")


async def test_an_expired_token_is_told_to_log_in_again(issuer, call):
    status, problem = await call(issuer.token(exp=time.time() - 3600, roles=["admin"]))
    assert (status, problem["detail"]) == (401, "The token has expired: log in again.")


async def test_an_issuer_that_is_down_is_told_from_a_bad_token(federation, issuer, call):
    issuer.answers[f"/realm{'/.well-known/openid-configuration'}"] = (500, {}, b"")
    try:
        status, problem = await call(issuer.token(roles=["admin"]))
    finally:
        issuer.reset()
    assert (status, problem["code"]) == (503, "issuer-unavailable")
    other = await federation.http.get("/v1/me", headers=bearer(ADMIN_KEY))
    assert other.status_code == 200


async def test_an_owner_runs_an_experiment_by_a_token(federation, issuer, call):
    await call(token := issuer.token(roles=["owner"]))
    admin, federation.admin = federation.admin, federation.admin.using(token)
    experiment, members = await federation.start()
    assert len(members) == 4
    await federation.admin.pause_experiment(experiment)
    another = federation.admin.using(issuer.token(sub="bob", roles=["owner"]))
    made = await another.create_experiment("toy", config(), "another-owner")
    events = await admin.audit(experiment)
    assert events[0].who == "oidc:alice"
    assert (await admin.audit(made.id))[0].who == "oidc:bob"


def test_the_document_names_all_that_the_operator_lets_in(tmp_path):
    settings = Settings(
        data_dir=tmp_path,
        admin_key="k" * 32,
        oidc_issuer="https://login.example.org/realms/fl",
        oidc_audience="fl",
        client_certificates="optional",
        public_views=False,
    )
    document = create_app(settings).openapi()
    validate(document)
    schemes = document["components"]["securitySchemes"]
    assert schemes["key"]["scheme"] == "bearer"
    assert schemes["certificate"]["type"] == "mutualTLS"
    assert schemes["issuer"]["openIdConnectUrl"] == (
        "https://login.example.org/realms/fl/.well-known/openid-configuration"
    )
    paths = document["paths"]
    person = [{"key": []}, {"issuer": []}]
    assert paths["/v1/experiments"]["post"]["security"] == person
    view = paths["/v1/experiments/{experiment_id}"]["get"]
    assert view["security"] == person
    assert "401" in view["responses"]
    status = paths["/v1/experiments/{experiment_id}/status"]["get"]
    assert status["security"] == [{"key": []}, {"key": [], "certificate": []}]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"FL_OIDC_ISSUER": "http://login.example.org"}, "FL_OIDC_ISSUER: must be an https://"),
        ({"FL_OIDC_ISSUER": "https://login.example.org"}, "FL_OIDC_AUDIENCE: must be set where"),
        ({"FL_OIDC_ROLES": "fl-team"}, "FL_OIDC_ROLES: each must be VALUE=ROLES"),
        ({"FL_OIDC_ROLES": "fl-team=boss"}, "FL_OIDC_ROLES: must have the roles admin, owner,"),
    ],
)
def test_settings_that_cannot_be(given, said):
    with pytest.raises(BadSettings) as caught:
        read_settings(given)
    assert str(caught.value).startswith(said)
