"""Whom a connection trusts, and through whom it goes: TLS and proxies."""

import datetime
import ipaddress
import ssl

import httpx
import pytest

from client_sdk import errors, transport
from client_sdk.connection import Connection, Retry
from tests.loopback import Server, well

ONCE = Retry(give_up_after=0)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A file with a key and a certificate for 127.0.0.1 that nobody has signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "coordinator")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def secured(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_certificate_that_nobody_signed_is_refused(caller, secured):
    async with Server(well, secured) as server, caller(server) as api:
        with pytest.raises(errors.CoordinatorUnreachable, match="certificate"):
            await api.request("GET", "/x")
    assert not server.heads


async def test_one_that_is_trusted_is_taken_for_its_host_alone(caller, secured, certificate):
    tls = ssl.create_default_context(cafile=certificate)
    async with Server(well, secured) as server:
        async with caller(server, tls) as api:
            assert (await api.request("GET", "/x")).text == "ok"
        server.url = server.url.replace("127.0.0.1", "localhost")
        async with caller(server, tls) as api:
            with pytest.raises(errors.CoordinatorUnreachable, match=r"(?i)hostname"):
                await api.request("GET", "/x")
    assert len(server.heads) == 1


async def test_the_environment_says_whom_to_trust(secured, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    way = transport.Transport.from_environment(4, "https://coordinator.invalid")
    async with Server(well, secured) as server, httpx.AsyncClient(transport=way) as http:
        assert (await http.get(server.url)).text == "ok"


# Proxies


@pytest.fixture
def no_proxies(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


async def test_a_proxy_of_the_environment_is_for_the_outside_alone(no_proxies):
    async with Server(well) as proxy, Server(well) as server:
        no_proxies.setenv("HTTP_PROXY", proxy.url)
        async with Connection("http://coordinator.invalid", retry=ONCE) as api:
            assert (await api.request("GET", "/x")).text == "ok"
        async with Connection(server.url, retry=ONCE) as api:
            assert (await api.request("GET", "/x")).text == "ok"
    assert proxy.heads[0].startswith(b"GET http://coordinator.invalid/v1/x HTTP/1.1\r\n")
    assert server.heads[0].startswith(b"GET /v1/x HTTP/1.1\r\n")
    assert len(proxy.heads) == len(server.heads) == 1
