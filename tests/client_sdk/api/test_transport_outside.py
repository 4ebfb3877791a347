"""Whom a connection trusts, and through whom it goes: TLS and proxies."""

import asyncio
import datetime
import importlib.util
import ipaddress
import os
import re
import ssl

import httpx
import pytest

from client_sdk import errors
from client_sdk.api import connection, transport
from client_sdk.api.connection import Connection, Retry
from tests.support.certificates import Authority
from tests.support.loopback import Server, saying, well

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


async def test_a_certificate_that_nobody_signed_is_refused_at_once(caller, secured):
    async with Server(well, secured) as server, caller(server, retry=Retry()) as api:
        with pytest.raises(errors.CoordinatorUnreachable, match="SSL_CERT_FILE"):
            await api.request("GET", "/x")
        assert api.traffic.retries == 0
    assert not server.heads


async def test_tls_with_who_does_not_speak_it_is_given_up_at_once(caller):
    async def answer(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Connection(f"https://127.0.0.1:{port}") as api:
            with pytest.raises(errors.CoordinatorUnreachable, match="may be an http:// address"):
                await api.request("GET", "/x")
            assert api.traffic.retries == 0


async def test_who_speaks_tls_alone_is_no_http_address(secured):
    async with Server(well, secured) as server:
        url = server.url.replace("https:", "http:")
        async with Connection(url, retry=ONCE) as api:
            with pytest.raises(errors.CoordinatorUnreachable, match="may be an https:// address"):
                await api.request("GET", "/x")


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


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_on_this_machine_it_says_so_too(secured, certificate, monkeypatch, host):
    """A tunnel, or a proxy that ends TLS, may stand here."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with Server(well, secured) as server:
        api = Connection(server.url.replace("127.0.0.1", host), retry=ONCE)
        if host == "127.0.0.1":
            assert (await api.request("GET", "/x")).text == "ok"
        else:  # not what the certificate is for
            with pytest.raises(errors.CoordinatorUnreachable, match=r"(?i)hostname"):
                await api.request("GET", "/x")
        await api.__aexit__()


@pytest.mark.parametrize("what", ["missing", "a folder", "no certificate", "empty"])
def test_a_file_that_holds_no_certificates_is_said_so(what, tmp_path, monkeypatch):
    path = tmp_path / "ca.pem"
    if what == "a folder":
        path.mkdir()
    elif what != "missing":
        path.write_text("" if what == "empty" else "coordinator.example\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(errors.BadSettings, match=r"SSL_CERT_FILE.*ca\.pem"):
        Connection("https://coordinator.example")
    with pytest.raises(errors.BadSettings):
        Connection("https://127.0.0.1:1")
    Connection("http://127.0.0.1:1")  # TLS has no part in it


def test_nor_does_a_folder_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    with pytest.raises(errors.BadSettings, match="SSL_CERT_DIR"):
        Connection("https://coordinator.example")
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join([str(tmp_path / "none"), str(tmp_path)]))
    Connection("https://coordinator.example")


async def test_the_environment_says_whom_to_trust(secured, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    way = transport.Transport.from_environment(4, "https://coordinator.invalid")
    async with Server(well, secured) as server, httpx.AsyncClient(transport=way) as http:
        assert (await http.get(server.url)).text == "ok"


# Certificates of the client's own


@pytest.fixture(scope="module")
def party(tmp_path_factory):
    """An authority, and the files of a certificate that it has signed, with its key."""
    folder = tmp_path_factory.mktemp("party")
    authority = Authority()
    file = folder / "authority.pem"
    file.write_bytes(authority.own.pem)
    return file, authority.sign("north").write(folder, "north")


async def test_a_certificate_is_shown_to_whoever_asks_for_one(
    secured, certificate, party, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    authority, files = party
    secured.load_verify_locations(authority)
    secured.verify_mode = ssl.CERT_REQUIRED
    subjects = []

    async def answer(server, number, reader, writer):
        subjects.append(writer.get_extra_info("peercert")["subject"])
        await well(server, number, reader, writer)

    async with Server(answer, secured) as server:
        async with Connection(server.url, certificate=files) as api:
            await api.request("GET", "/x")
        async with Connection(server.url, retry=Retry(give_up_after=0)) as api:
            with pytest.raises(errors.CoordinatorUnreachable):
                await api.request("GET", "/x")
    assert subjects == [((("commonName", "north"),),)]


async def test_a_server_that_refuses_the_certificate_is_not_asked_again(monkeypatch):
    """In TLS 1.3 the alert comes after the handshake, with the first bytes that are read."""
    tries = []

    class Refusing(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            tries.append(request)
            alert = ssl.SSLError(1, "[SSL: SSLV3_ALERT_BAD_CERTIFICATE] sslv3 alert")
            alert.reason = "SSLV3_ALERT_BAD_CERTIFICATE"
            raise alert

    monkeypatch.setattr(transport.Transport, "_make", lambda self, proxy: Refusing())
    async with Connection("https://127.0.0.1:1", retry=Retry()) as api:
        with pytest.raises(errors.CoordinatorUnreachable, match="--client-certificate"):
            await api.request("GET", "/x")
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("no TLS", "needs https://, and http://coordinator.invalid has no TLS"),
        ("no file", "gone.pem, which cannot be read: No such file"),
        ("not a pair", "are no certificate and its key in PEM"),
        ("a password", "has a password: take it off"),
    ],
)
def test_a_certificate_that_cannot_be_shown_is_said_so(which, said, party, tmp_path):
    certificate, key = party[1]
    address = "https://coordinator.invalid"
    if which == "no TLS":
        address = "http://coordinator.invalid"
    elif which == "no file":
        key = tmp_path / "gone.pem"
    elif which == "not a pair":
        key = Authority().sign("south").write(tmp_path, "south")[1]
    else:
        signed = Authority().sign("south")
        certificate, key = signed.write(tmp_path, "south")
        key.write_bytes(signed.key_pem("secret"))
    with pytest.raises(errors.BadSettings, match=re.escape(said)):
        Connection(address, certificate=(certificate, key))


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


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("socks5://127.0.0.1:1089", "httpx\\[socks\\]"),
        ("socks5h://name:hidden-pass@127.0.0.1:1089", "httpx\\[socks\\]"),
        ("http://127.0.0.1:99999", "cannot be one"),
        ("http://127.0.0.1:port", "cannot be one"),
        ("http://", "cannot be one"),
        ("ftp://127.0.0.1:9", "cannot be one"),
        ("http://[::1", "cannot be one"),
    ],
)
def test_a_proxy_that_cannot_be_one_is_said_so(no_proxies, proxy, words):
    if "socks" in proxy and importlib.util.find_spec("socksio"):
        pytest.skip("SOCKS can be had here")
    no_proxies.setenv("ALL_PROXY", proxy)
    with pytest.raises(errors.BadSettings, match=words) as caught:
        Connection("https://coordinator.example")
    assert "hidden-pass" not in str(caught.value)
    # It is for others than this machine, and than those that are named.
    Connection("http://127.0.0.1:8000")
    no_proxies.setenv("NO_PROXY", "coordinator.example")
    Connection("https://coordinator.example")


EXEMPT = (
    "*.corp.example, [::1], 10.0.0.0/8,fd00::/8, .internal,one.example:8443,,http://two.example"
)


@pytest.mark.parametrize(
    ("url", "straight"),
    [
        ("https://a.corp.example", True),
        ("https://a.internal", True),
        ("https://b.a.internal", True),
        ("https://10.1.2.3", True),
        ("https://[fd00::5]:8443", True),
        ("https://one.example:8443", True),
        ("https://two.example", True),
        ("https://sub.two.example", True),
        ("https://one.example", False),
        ("https://coordinator.example", False),
        ("https://nottwo.example", False),
        ("https://11.1.2.3", False),
        ("https://[fe00::5]", False),
    ],
)
def test_who_is_named_in_no_proxy_is_asked_straight(no_proxies, url, straight):
    no_proxies.setenv("HTTPS_PROXY", "127.0.0.1:9")
    no_proxies.setenv("NO_PROXY", EXEMPT)
    way = transport.Transport.from_environment(4, url)
    assert (way.proxy_of(httpx.URL(url)) == "") is straight
    no_proxies.setenv("NO_PROXY", f"{EXEMPT},*")
    assert transport.Transport.from_environment(4, url).proxy_of(httpx.URL(url)) == ""


async def test_a_proxy_that_is_away_is_named_without_its_password(no_proxies):
    no_proxies.setenv("HTTPS_PROXY", "http://name:word@127.0.0.1:1")
    async with Connection("https://coordinator.invalid", retry=ONCE) as api:
        with pytest.raises(
            errors.CoordinatorUnreachable, match=r"proxy http://127\.0\.0\.1:1\)"
        ) as e:
            await api.request("GET", "/x")
    assert "word" not in str(e.value)


async def test_a_proxy_that_refuses_is_not_asked_again(no_proxies):
    answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    async with Server(saying(answer)) as proxy:
        no_proxies.setenv("HTTPS_PROXY", proxy.url)
        async with Connection("https://coordinator.invalid") as api:
            with pytest.raises(errors.CoordinatorUnreachable, match="407"):
                await api.request("GET", "/x")
            assert api.traffic.retries == 0


# How long it is tried


class Away(httpx.AsyncBaseTransport):
    """Answers `good` times, then nothing more; each try takes three seconds of the clock's."""

    def __init__(self, clock, good=0):
        self.clock, self.good, self.limits = clock, good, []

    async def handle_async_request(self, request):
        if self.good:
            self.good -= 1
            return httpx.Response(200, text="ok")
        self.limits.append(request.extensions["timeout"]["connect"])
        self.clock.now += 3
        raise httpx.ConnectError("refused")


class Clock:
    """Time goes by when somebody sleeps."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(connection.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(connection.asyncio, "sleep", self.sleep)

    async def sleep(self, seconds):
        self.now += seconds


@pytest.mark.parametrize(("good", "least", "most"), [(0, 6, 13), (1, 270, 303)])
async def test_who_never_answered_is_given_up_sooner(monkeypatch, good, least, most):
    clock = Clock(monkeypatch)
    monkeypatch.setattr(connection, "LEAST_CONNECT_SECONDS", 0.0)
    way = Away(clock, good)
    async with Connection("http://coordinator", transport=way) as api:
        for _ in range(good):
            await api.using("another").request("GET", "/x")  # all callers over it share that
        began = clock.now
        with pytest.raises(errors.CoordinatorUnreachable, match="refused"):
            await api.request("GET", "/x")
    assert least <= clock.now - began <= most
    # No try may take longer than what is left of that.
    assert all(limit <= 10 for limit in way.limits)
    if not good:
        assert way.limits[-1] <= connection.FIRST_SECONDS - 3 * (len(way.limits) - 1)


async def test_a_blob_store_that_never_answered_is_given_up_sooner_too(monkeypatch):
    clock = Clock(monkeypatch)
    async with Connection("http://coordinator", transport=Away(clock, 1)) as api:
        await api.request("GET", "/x")
        began = clock.now
        with pytest.raises(errors.CoordinatorUnreachable, match="store"):
            await api.direct("GET", "http://store/x")
    assert clock.now - began <= 13


async def test_a_pause_beyond_what_is_left_is_not_begun(monkeypatch):
    clock = Clock(monkeypatch)

    class Busy(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            return httpx.Response(503, headers={"Retry-After": "101"}, text="busy")

    retry = Retry(give_up_after=100)
    async with Connection("http://coordinator", transport=Busy(), retry=retry) as api:
        with pytest.raises(errors.RequestRefused, match="busy"):
            await api.request("GET", "/x")
    assert clock.now == 1000.0
