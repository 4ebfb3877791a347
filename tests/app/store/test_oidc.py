"""Tokens of a real issuer: a small HTTP server with keys of its own, on this machine."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from app.store import oidc
from app.store.oidc import OidcIssuer
from serverless_fl.domain.errors import IssuerUnavailable, Unauthenticated
from tests.support.issuer import AUDIENCE, CURVE, ED, RSA, STRANGERS, Issuer, jwk


@pytest.fixture(scope="module")
def server() -> Iterator[Issuer]:
    found = Issuer()
    yield found
    found.close()


@pytest.fixture
def issuer(server) -> Issuer:
    server.reset()
    return server


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def reader_of(issuer: Issuer, clock: Clock | None = None) -> OidcIssuer:
    """With more patience than operators want, because the machine may be busy."""
    return OidcIssuer(issuer.url, AUDIENCE, seconds=60, clock=clock or Clock())


@pytest.fixture
def ours(issuer, clock) -> OidcIssuer:
    return reader_of(issuer, clock)


async def refusal(ours: OidcIssuer, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await ours.claims(token)
    assert token not in caught.value.message
    return caught.value.message


async def test_tokens_of_each_kind_of_key_are_taken(issuer, ours):
    for key, algorithm, kid in [
        (RSA, "RS256", "rsa"),
        (RSA, "PS384", "rsa"),
        (CURVE, "ES256", "curve"),
        (ED, "EdDSA", "ed"),
    ]:
        claims = await ours.claims(issuer.token(key, algorithm, kid, roles=["owner"]))
        assert (claims["sub"], claims["roles"]) == ("alice", ["owner"])
    assert len(issuer.asked) == 2  # the description and the keys, once for all


async def test_a_clock_may_differ_by_seconds(issuer, ours):
    await ours.claims(issuer.token(exp=time.time() - 5))
    await ours.claims(issuer.token(nbf=time.time() + 5))


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"iss": "https://another.example"}, "another issuer"),
        ({"iss": None}, "lacks the claim iss"),
        ({"aud": "another-service"}, "another audience"),
        ({"aud": None}, "lacks the claim aud"),
        ({"exp": time.time() - 3600}, "has expired"),
        ({"exp": None}, "lacks the claim exp"),
        ({"nbf": time.time() + 3600}, "not valid yet"),
    ],
)
async def test_a_claim_that_does_not_fit_is_named(issuer, ours, claims, said):
    assert said in await refusal(ours, issuer.token(**claims))


async def test_another_key_under_a_known_id_is_refused(issuer, ours):
    assert "signature is not its issuer's" in await refusal(ours, issuer.token(STRANGERS))


async def test_the_algorithm_is_the_keys_and_not_the_tokens(issuer, ours):
    assert "algorithm" in await refusal(ours, issuer.token(CURVE, "ES256", "rsa"))
    issuer.keys = [jwk(RSA, "rsa", alg="RS512")]
    again = reader_of(issuer)
    await again.claims(issuer.token(algorithm="RS512"))
    assert "algorithm" in await refusal(again, issuer.token(algorithm="RS256"))


async def test_a_token_without_a_signature_is_refused(issuer, ours):
    assert "algorithm" in await refusal(ours, issuer.token(None, "none"))
    whole = issuer.token()
    assert "algorithm" in await refusal(
        ours, issuer.token(None, "none").rpartition(".")[0] + "." + whole.rpartition(".")[2]
    )


async def test_a_public_key_is_no_shared_secret(issuer, ours):
    """The confusion of algorithms: the public key, which all know, as the key of an HMAC."""
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": "HS256", "typ": "JWT", "kid": "rsa"}
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "eve", "exp": time.time() + 600}

    def encoded(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = b".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    for secret in (public, public.strip()):
        mac = hmac.new(secret, signed, hashlib.sha256).digest()
        token = b".".join((signed, encoded(mac))).decode()
        assert "algorithm is none of" in await refusal(ours, token)
    assert issuer.asked == []


async def test_keys_that_are_no_public_keys_of_signatures_are_left_out(issuer, ours):
    small = rsa.generate_private_key(65537, 1024)
    private = json.loads(RSAAlgorithm.to_jwk(RSA)) | {"kid": "private"}
    secret = {"kty": "oct", "kid": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}
    issuer.keys = [
        *(jwk(RSA, "rsa"), jwk(small, "small"), private, secret, "no key", {"kty": "RSA"}),
        *(jwk(RSA, "enc", use="enc"), jwk(CURVE, "odd", crv="P-999")),
    ]
    await ours.claims(issuer.token())
    for key, algorithm, kid in [
        (RSA, "RS256", "small"),
        (RSA, "RS256", "private"),
        (RSA, "RS256", "enc"),
        (CURVE, "ES256", "odd"),
    ]:
        assert "does not publish" in await refusal(ours, issuer.token(key, algorithm, kid))


async def test_a_token_that_names_no_key_goes_with_an_only_key(issuer, ours):
    assert "names none of several" in await refusal(ours, issuer.token(kid=None))
    issuer.keys = [jwk(RSA, None)]
    again = reader_of(issuer)
    assert (await again.claims(issuer.token(kid=None)))["sub"] == "alice"
    issuer.keys = [jwk(RSA, None), jwk(CURVE, None)]
    again = reader_of(issuer)
    assert "names none of several" in await refusal(again, issuer.token(kid=None))


async def test_an_unknown_key_is_looked_up_once_a_minute(issuer, ours, clock):
    await ours.claims(issuer.token())
    issuer.keys.append(jwk(STRANGERS, "new"))
    new = issuer.token(STRANGERS, kid="new")
    assert "does not publish" in await refusal(ours, new)
    clock.now += oidc.AGAIN_SECONDS
    assert (await ours.claims(new))["sub"] == "alice"
    asked = len(issuer.asked)
    clock.now += oidc.AGAIN_SECONDS
    for number in range(5):
        await refusal(ours, issuer.token(kid=f"invented-{number}"))
    assert len(issuer.asked) == asked + 2


async def test_a_withdrawn_key_ends_within_an_hour(issuer, ours, clock):
    token = issuer.token()
    await ours.claims(token)
    issuer.keys = [jwk(CURVE, "curve")]
    await ours.claims(token)
    clock.now += oidc.FRESH_SECONDS + 1
    assert "does not publish" in await refusal(ours, token)


async def test_known_keys_go_on_for_a_day_while_the_issuer_is_down(clock):
    issuer = Issuer()
    ours = reader_of(issuer, clock)
    token = issuer.token(exp=time.time() + 10 * oidc.STALE_SECONDS)
    await ours.claims(token)
    issuer.close()
    clock.now += oidc.STALE_SECONDS - 1
    await ours.claims(token)
    clock.now += oidc.AGAIN_SECONDS
    with pytest.raises(IssuerUnavailable):
        await ours.claims(token)


async def test_an_issuer_that_comes_back_is_asked_again_soon(issuer, ours, clock):
    path = f"/realm{oidc.WELL_KNOWN}"
    issuer.answers[path] = (500, {}, b"")
    with pytest.raises(IssuerUnavailable):
        await ours.claims(issuer.token())
    del issuer.answers[path]
    with pytest.raises(IssuerUnavailable):  # at once, without asking
        await ours.claims(issuer.token())
    clock.now += oidc.FAILED_SECONDS
    await ours.claims(issuer.token())


TOO_MUCH = b'{"keys": "' + b"x" * oidc.MOST_BYTES + b'"}'


@pytest.mark.parametrize(
    ("path", "answer", "cause"),
    [
        ("/realm/keys", (200, {}, TOO_MUCH), "has more than 262144 bytes"),
        ("/realm/keys", (200, {}, b"no JSON"), "Expecting value"),
        ("/realm/keys", (200, {}, b"[]"), "no JSON object"),
        ("/realm/keys", (200, {}, b'{"keys": []}'), "none of its keys"),
        ("/realm/keys", (200, {}, json.dumps({"keys": [{}] * 65}).encode()), "at most 64"),
        ("/realm/keys", (302, {"Location": "/elsewhere"}, b""), "answers 302"),
        (f"/realm{oidc.WELL_KNOWN}", (404, {}, b""), "answers 404"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_answer_that_cannot_be_used_is_logged(issuer, ours, caplog, path, answer, cause):
    issuer.answers[path] = answer
    with pytest.raises(IssuerUnavailable) as caught:
        await ours.claims(issuer.token())
    assert cause in caplog.text
    assert cause not in caught.value.message
    assert "/elsewhere" not in issuer.asked


@pytest.mark.parametrize(
    ("about", "cause"),
    [
        ({"issuer": "http://127.0.0.1/another"}, "names another issuer"),
        ({"jwks_uri": "file:///etc/passwd"}, "no safe address"),
        ({"jwks_uri": None}, "no safe address"),
    ],
)
async def test_a_description_that_leads_elsewhere_is_not_followed(
    issuer, ours, caplog, about, cause
):
    issuer.about = about
    with pytest.raises(IssuerUnavailable):
        await ours.claims(issuer.token())
    assert cause in caplog.text


@pytest.mark.parametrize("text", ["a.b.c", "..", "e30.e30.e30", "\xff.\xff.\xff", "x" * 20_000])
async def test_what_is_no_token_is_refused_before_the_issuer_is_asked(issuer, ours, text):
    await refusal(ours, text)
    assert issuer.asked == []
