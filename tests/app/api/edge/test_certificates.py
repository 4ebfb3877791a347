"""Certificates of clients: who is believed, in which form, and what they bind."""

from __future__ import annotations

import base64
from urllib.parse import quote

import httpx
import pytest

from app.api.edge.certificates import FORMS, PASSED, PEER, PLATFORM, ClientCertificates
from client_sdk.api.client import CoordinatorClient
from client_sdk.api.connection import Retry
from client_sdk.errors import RequestRefused
from serverless_fl.domain.errors import Forbidden
from serverless_fl.domain.records import ClientCertificate
from tests.support.certificates import Authority
from tests.support.federation import key_of

AUTHORITY = Authority()
NORTH, SOUTH = AUTHORITY.sign("north"), AUTHORITY.sign("south")
RENEWED = AUTHORITY.sign("north")
IMPOSTOR = Authority("another authority").sign("north")
PROXY = "10.0.0.7"


def of_nginx(signed) -> dict[str, str]:
    return {"X-SSL-Client-Cert": quote(signed.pem), "X-SSL-Client-Verify": "SUCCESS"}


def of_client_cert(signed) -> dict[str, str]:
    return {"Client-Cert": f":{base64.b64encode(signed.der).decode()}:"}


def of_alb(signed) -> dict[str, str]:
    return {"X-Amzn-Mtls-Clientcert-Leaf": quote(signed.pem, safe="+=/")}


WRITTEN = {"nginx": of_nginx, "client-cert": of_client_cert, "alb": of_alb}


def scope(headers: dict[str, str], peer: str | None = PROXY, **state) -> dict:
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {"headers": pairs, "state": {PEER: peer, **state}}


def reading(form: str, **options) -> ClientCertificates:
    return ClientCertificates(form, proxies=["10.0.0.0/8", "::1"], **options)


@pytest.mark.parametrize("form", WRITTEN)
def test_each_form_tells_the_same(form):
    assert form in FORMS
    found = reading(form).of(scope(WRITTEN[form](NORTH)))
    assert found == ClientCertificate("CN=north", "CN=authority")
    assert reading(form).of(scope({})) is None


def test_a_gateway_of_the_platform_passes_the_certificate_itself():
    passed = reading("api-gateway").of(scope({}, **{PASSED: NORTH.pem.decode()}))
    assert passed == ClientCertificate("CN=north", "CN=authority")
    assert reading("api-gateway").of(scope(of_nginx(NORTH))) is None


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("peer", ["192.0.2.1", "127.0.0.1", "not an address", None])
def test_only_a_trusted_proxy_is_believed(form, peer):
    with pytest.raises(Forbidden) as caught:
        reading(form).of(scope(WRITTEN[form](NORTH), peer))
    assert caught.value.code == "proxy-not-trusted"
    assert "FL_TRUSTED_PROXIES" in caught.value.message


def test_the_load_balancer_of_the_platform_is_believed():
    found = reading("alb").of(scope(of_alb(NORTH), None, **{PLATFORM: True}))
    assert found == ClientCertificate("CN=north", "CN=authority")


def test_where_it_is_off_headers_mean_nothing():
    assert ClientCertificates(None).of(scope(of_nginx(NORTH), "192.0.2.1")) is None


@pytest.mark.parametrize(
    ("form", "headers", "said"),
    [
        ("nginx", {"X-SSL-Client-Cert": quote(NORTH.pem)}, "does not say SUCCESS"),
        ("nginx", of_nginx(NORTH) | {"X-SSL-Client-Verify": "FAILED:x"}, "does not say SUCCESS"),
        ("nginx", of_nginx(NORTH) | {"X-SSL-Client-Cert": "garbage"}, "cannot be read"),
        ("nginx", of_nginx(NORTH) | {"X-SSL-Client-Cert": "%ff%00"}, "cannot be read"),
        ("client-cert", {"Client-Cert": base64.b64encode(NORTH.der).decode()}, "between colons"),
        ("client-cert", {"Client-Cert": ":"}, "between colons"),
        ("client-cert", {"Client-Cert": ":n o:"}, "not in base64"),
        ("client-cert", {"Client-Cert": ":AAAA:"}, "cannot be read"),
        ("alb", of_alb(AUTHORITY.sign()), "has no subject"),
        ("alb", of_alb(AUTHORITY.sign(*["n" * 60] * 9)), "longer than 500 characters"),
        ("alb", of_alb(AUTHORITY.sign("two\nlines")), "not printable"),
    ],
)
def test_a_header_that_is_no_certificate_is_refused(form, headers, said):
    with pytest.raises(Forbidden) as caught:
        reading(form).of(scope(headers))
    assert caught.value.code == "certificate-refused"
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        ("nginx", {"X-SSL-Client-Verify": "NONE"}),
        ("nginx", {"X-SSL-Client-Cert": "", "X-SSL-Client-Verify": "NONE"}),
        ("client-cert", {"Client-Cert": "::"}),
        ("client-cert", {"Client-Cert": ":{http.request.tls.client.certificate_der_base64}:"}),
        ("client-cert", {"Client-Cert": ""}),
    ],
)
def test_proxies_say_in_their_ways_that_there_is_none(form, headers):
    assert reading(form).of(scope(headers)) is None
    with pytest.raises(Forbidden) as caught:
        reading(form, required=True).of(scope(headers))
    assert caught.value.code == "certificate-missing"


class Behind(httpx.AsyncBaseTransport):
    """The application behind a proxy, which passes on the certificate that it was shown."""

    def __init__(self, app, peer: str = PROXY) -> None:
        self.shown: dict[str, str] = {}

        async def from_proxy(scope, receive, send):
            await app(scope | {"state": {PEER: peer}}, receive, send)

        self.inner = httpx.ASGITransport(from_proxy, raise_app_exceptions=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.headers.update(self.shown)
        return await self.inner.handle_async_request(request)

    def show(self, signed=None) -> None:
        self.shown = of_nginx(signed) if signed else {}


@pytest.fixture
async def behind(federation):
    federation.app.state.certificates = reading("nginx")
    proxy = Behind(federation.app)
    async with CoordinatorClient(
        "http://coordinator", retry=Retry(give_up_after=0), transport=proxy
    ) as caller:
        proxy.caller = caller
        yield proxy


async def enrol(behind, experiment: str, key: str, number: int = 0):
    found = await behind.caller.using(key).subscribe(experiment, key_of(number), "north")
    return found.client_id, behind.caller.using(found.token)


async def code_of(call) -> tuple[int, str]:
    with pytest.raises(RequestRefused) as caught:
        await call
    return caught.value.status, caught.value.code


async def test_a_client_shows_the_certificate_that_it_enrolled_with(federation, behind):
    experiment, key = await federation.create()
    behind.show(NORTH)
    name, client = await enrol(behind, experiment, key)
    for signed in (NORTH, RENEWED):
        behind.show(signed)
        await client.status(experiment)
    for signed, code in [
        (None, "certificate-missing"),
        (SOUTH, "certificate-differs"),
        (IMPOSTOR, "certificate-differs"),
    ]:
        behind.show(signed)
        for call in (
            client.status(experiment),
            client.download_model(experiment, 0, 1 << 20),
            client.replace_token(experiment, key_of(0)),
            enrol(behind, experiment, key),
        ):
            assert await code_of(call) == (403, code)
    behind.show(RENEWED)
    assert (await enrol(behind, experiment, key))[0] == name
    await client.replace_token(experiment, key_of(0))
    events = await federation.admin.audit(experiment)
    assert events[-2].detail == "north, certificate of CN=north"


async def test_switched_off_it_lets_no_bound_client_in(federation, behind):
    experiment, key = await federation.create()
    behind.show(NORTH)
    _, client = await enrol(behind, experiment, key)
    federation.app.state.certificates = ClientCertificates(None)
    assert await code_of(client.status(experiment)) == (403, "certificate-missing")


async def test_where_certificates_are_required_a_client_enrols_again_with_one(federation, behind):
    experiment, key = await federation.create()
    name, client = await enrol(behind, experiment, key)
    await client.status(experiment)
    federation.app.state.certificates = reading("nginx", required=True)
    assert await code_of(client.status(experiment)) == (403, "certificate-missing")
    assert await code_of(enrol(behind, experiment, key, 1)) == (403, "certificate-missing")
    behind.show(NORTH)
    assert await code_of(client.status(experiment)) == (403, "certificate-missing")
    assert (await enrol(behind, experiment, key))[0] == name
    await client.status(experiment)
    behind.show(SOUTH)
    assert await code_of(client.status(experiment)) == (403, "certificate-differs")


async def test_two_headers_are_refused(federation):
    pair = [(name, quote(NORTH.pem)) for name in ("X-SSL-Client-Cert", "x-ssl-client-cert")]
    answer = await federation.http.get("/health", headers=pair)
    assert (answer.status_code, answer.json()["code"]) == (400, "repeated-header")
