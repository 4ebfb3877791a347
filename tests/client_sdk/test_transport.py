"""What httpx promises of the network, over either transport: ours, and httpx's own."""

import asyncio
import contextlib
import datetime
import gzip
import hashlib
import ipaddress
import re
import ssl
import warnings

import httpx
import pytest

from client_sdk import connection, errors, transport
from client_sdk.connection import Connection, Retry

ONCE = Retry(give_up_after=0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(params=["ours", "httpx"])
def way(request):
    """Makes a transport; that of httpx has to pass the same tests."""
    if request.param == "ours":
        return lambda tls: transport.Transport(64, tls)
    return lambda tls: httpx.AsyncHTTPTransport(verify=tls)


@pytest.fixture
def caller(way):
    """Makes connections to a server of these tests."""

    def make(server, tls=None, **options):
        tls = tls or httpx.create_ssl_context(trust_env=False)
        options = {"retry": ONCE, "timeout": 5.0, **options}
        return Connection(server.url, "key", transport=way(tls), **options)

    return make


class Server:
    """Answers on the loopback as `answer(server, reader, writer, head)` does; None hangs up."""

    def __init__(self, answer, tls=None):
        self.answer, self.tls = answer, tls
        self.heads, self.bodies, self.tasks = [], [], set()
        self.opened, self.gone = 0, asyncio.Event()

    async def __aenter__(self):
        self.listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        port = self.listener.sockets[0].getsockname()[1]
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_):
        self.listener.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        self.opened += 1
        number = self.opened
        # A caller that goes away, or the test's end, is no fault of the server.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                await self.answer(self, number, reader, writer)
                await writer.drain()
        self.gone.set()
        writer.close()
        self.tasks.discard(task)


async def take(server, reader):
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", server.heads[-1])
    server.bodies.append(await reader.readexactly(int(length[1])) if length else b"")


async def well(server, number, reader, writer):
    await take(server, reader)
    writer.write(OK)


def saying(answer):
    async def say(server, number, reader, writer):
        writer.write(answer)
        await writer.drain()
        raise ConnectionResetError  # hang up

    return say


async def silent(server, number, reader, writer):
    if await reader.read(1) == b"":
        raise ConnectionResetError
    await asyncio.sleep(60)


async def test_a_connection_is_kept_for_the_next_request(caller):
    async with Server(well) as server, caller(server) as api:
        for _ in range(5):
            assert (await api.request("GET", "/x")).text == "ok"
        await asyncio.gather(*(api.request("GET", "/x") for _ in range(40)))
    assert len(server.heads) == 45
    assert server.opened <= connection.MAX_BUSY


async def test_one_that_was_closed_meanwhile_is_not_used_again(caller):
    async with Server(saying(OK)) as server, caller(server) as api:
        for _ in range(3):
            assert (await api.request("POST", "/x")).text == "ok"
            await asyncio.sleep(0.02)
    assert server.opened == len(server.heads) == 3


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_one_that_is_closed_under_a_request_is_a_reason_to_send_it_again(caller, method):
    async def once(server, number, reader, writer):
        await take(server, reader)
        if number == 1 and len(server.heads) == 2:
            raise ConnectionResetError
        writer.write(OK)

    body = {} if method == "GET" else {"content": b"body"}
    retry = Retry(give_up_after=5, first_pause=0.01)
    async with Server(once) as server, caller(server, retry=retry) as api:
        for _ in range(3):
            assert (await api.request(method, "/x", **body)).text == "ok"
    assert server.bodies == 4 * [body.get("content", b"")]


@pytest.mark.parametrize("megabytes", [1, 5])
async def test_a_large_body_that_is_sent_again_is_sent_from_its_start(caller, megabytes):
    """Kept connection, PUT, broken in the middle: the case that aiohttp repeats by itself."""

    async def broken(server, number, reader, writer):
        if number == 1 and len(server.heads) == 2:
            await reader.readexactly(500_000)
            writer.transport.abort()
            raise ConnectionResetError
        await well(server, number, reader, writer)

    body = bytes(range(256)) * 4096 * megabytes
    retry = Retry(give_up_after=5, first_pause=0.01)
    async with Server(broken) as server, caller(server, retry=retry) as api:
        await api.request("GET", "/x")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await api.request("PUT", "/x", content=body)
    assert hashlib.sha256(server.bodies[-1]).digest() == hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\nno",
    ],
    ids=["none", "no HTTP", "cut", "cut chunk", "no gzip"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_broken_answer_is_none(caller, answer, method):
    async with Server(saying(answer)) as server, caller(server) as api:
        with pytest.raises(errors.CoordinatorUnreachable, match=server.url):
            await api.request(method, "/x")


async def test_an_answer_may_be_packed_or_in_chunks_or_empty(caller):
    packed = gzip.compress(b"long " * 1000)

    async def kinds(server, number, reader, writer):
        writer.write(
            {
                b"packed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
                + f"Content-Length: {len(packed)}\r\n\r\n".encode()
                + packed,
                b"chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
                b"none": b"HTTP/1.1 204 No Content\r\n\r\n",
            }[server.heads[-1].split()[1].removeprefix(b"/v1/")]
        )

    async with Server(kinds) as server, caller(server) as api:
        assert (await api.request("GET", "/packed")).content == b"long " * 1000
        assert (await api.request("GET", "/chunks")).content == b"abc"
        assert (await api.request("GET", "/none")).content == b""
        assert server.opened == 1


async def test_who_does_not_answer_in_time_is_not_waited_for(caller):
    async with Server(silent) as server, caller(server, timeout=0.2) as api:
        with pytest.raises(errors.CoordinatorUnreachable, match="did not answer"):
            await api.request("GET", "/x")
        assert not api._busy.locked()
        await asyncio.wait_for(server.gone.wait(), 5)  # the connection is not kept


async def test_who_stops_in_the_middle_of_an_answer_is_not_waited_for(caller):
    async def half(server, number, reader, writer):
        writer.write(OK[:-1])
        await writer.drain()
        await silent(server, number, reader, writer)

    async with Server(half) as server, caller(server, timeout=0.2) as api:
        with pytest.raises(errors.CoordinatorUnreachable):
            await api.request("GET", "/x")
        await asyncio.wait_for(server.gone.wait(), 5)


async def test_who_takes_no_more_of_an_upload_is_not_waited_for(caller):
    async def deaf(server, number, reader, writer):
        await asyncio.sleep(60)

    async with Server(deaf) as server, caller(server, timeout=0.2) as api:
        with pytest.raises(errors.CoordinatorUnreachable):
            await asyncio.wait_for(api.request("PUT", "/x", content=bytes(20_000_000)), 10)


async def test_a_limit_of_its_own_counts_for_a_request(caller):
    async def slow(server, number, reader, writer):
        await asyncio.sleep(0.5)
        writer.write(OK)

    async with Server(slow) as server, caller(server, timeout=0.2) as api:
        answer = await api.request("GET", "/x", timeout=httpx.Timeout(5.0), held=True)
        assert answer.text == "ok"


async def test_who_stops_waiting_closes_the_connection_and_no_other(caller):
    async def held(server, number, reader, writer):
        await (silent if b"/held" in server.heads[-1] else well)(server, number, reader, writer)

    async with Server(held) as server, caller(server) as api:
        waiting = asyncio.create_task(api.request("GET", "/held", held=True))
        while not server.heads:
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(server.gone.wait(), 5)
        assert (await api.request("GET", "/x")).text == "ok"


async def test_a_signed_url_goes_out_as_it_came(caller):
    query = "X-Amz-Credential=AKIA%2F2026%2Fs3&sig=a%2Bb%3D&empty="
    async with Server(well) as server, caller(server) as api:
        await api.direct(
            "PUT", f"{server.url}/a%2Fb/~c%7E/d?{query}#e", content=b"x", headers={"X-Own": "1"}
        )
    line, *headers = server.heads[0].rstrip().split(b"\r\n")
    assert line == f"PUT /a%2Fb/~c%7E/d?{query} HTTP/1.1".encode()
    assert {h.split(b":")[0].decode().lower() for h in headers} == {
        *("host", "accept", "accept-encoding", "connection", "user-agent", "content-length"),
        "x-own",
    }
    assert server.bodies == [b"x"]


async def test_a_header_that_cannot_be_sent_is_not(caller):
    async with Server(well) as server, caller(server) as api:
        with pytest.raises(errors.CoordinatorUnreachable):
            await api.direct("PUT", f"{server.url}/x", headers={"X-Own": "1\r\nX-Other: 2"})
    assert not server.heads


async def test_a_name_that_nobody_has_is_unreachable(caller):
    class Nobody:
        url = "http://nobody.invalid"

    async with caller(Nobody) as api:
        with pytest.raises(errors.CoordinatorUnreachable, match="nobody"):
            await api.request("GET", "/x")


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
    way = transport.pick(4, trust_env=True)
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


async def test_where_there_is_none_the_transport_is_ours(no_proxies):
    assert isinstance(transport.pick(4, trust_env=True), transport.Transport)
    no_proxies.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert transport.pick(4, trust_env=True) is None
    assert isinstance(transport.pick(4, trust_env=False), transport.Transport)
