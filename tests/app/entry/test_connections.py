"""What a connection may take: of a server over real sockets, with its limits made small."""

from __future__ import annotations

import asyncio
import contextlib
import json

import httpx
import pytest
import uvicorn

from app.api.edge.certificates import PEER
from app.config import Settings
from app.entry.server import connections
from app.entry.server.connections import BoundedProtocol, Places
from app.main import create_app
from tests.support.federation import ADMIN_KEY, config

GET = b"GET /health HTTP/1.1\r\nHost: a\r\n"
LONG = 60.0  # seconds that no test waits


class Served:
    """uvicorn as `python -m app` has it, in this process."""

    def __init__(self, app):
        self.server = uvicorn.Server(
            uvicorn.Config(
                app, port=0, http=BoundedProtocol, ws="none", log_config=None, lifespan="off"
            )
        )

    async def __aenter__(self):
        self.task = asyncio.create_task(self.server.serve())
        while not self.server.started:
            await asyncio.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.open = []
        return self

    async def __aexit__(self, *_):
        for writer in self.open:
            writer.close()
        self.server.should_exit = True
        await self.task

    async def connect(self, *sent):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.open.append(writer)
        for data in sent:
            writer.write(data)
        return reader, writer

    async def answer(self, *sent):
        """Status and problem of what is answered until the server hangs up."""
        reader, _ = await self.connect(*sent)
        return await said(reader)


async def said(reader):
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            data = await reader.read()
            if not data:
                return None
            head, _, body = data.partition(b"\r\n\r\n")
            assert b"application/problem+json" in head, head
            return int(head.split()[1]), json.loads(body)
    return None


def short(monkeypatch, seconds):
    for name in ("HEAD_SECONDS", "BODY_SECONDS"):
        monkeypatch.setattr(connections, name, seconds)


@pytest.fixture
async def served(federation, monkeypatch):
    """Its limits of time are long, but for the tests that are about them."""
    short(monkeypatch, LONG)
    limits = Places(per_address=20, most=100)
    monkeypatch.setattr(connections, "places", lambda: limits)
    # Many parts of a second: their rate is not what is tried here.
    app = create_app(Settings(admin_key=ADMIN_KEY, rate_per_second=0))
    app.state.coordinator = federation.app.state.coordinator
    async with Served(app) as served:
        served.places = limits
        yield served
    assert not limits.open
    assert not limits.waiting


async def healthy(served):
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(f"http://127.0.0.1:{served.port}/health")).status_code == 200


ENDLESS = {
    "a field that goes on": (GET + b"X: ", b"x" * 65536),
    "fields that go on": (GET, b"".join(b"X-%d: y\r\n" % n for n in range(500))),
    "a path that goes on": (b"GET /", b"x" * 65536),
    "a name that goes on": (GET, b"x" * 65536),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_a_head_without_end_is_cut_off(served, name):
    first, more = ENDLESS[name]
    _, writer = await served.connect(first)
    taken = 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(20):
            while taken < 64 * 1024**2:
                writer.write(more)
                await writer.drain()
                taken += len(more)
    assert taken < 16 * 1024**2  # what fits into the buffers of two sockets
    assert await healthy(served)


@pytest.mark.parametrize(
    "head",
    [
        GET + b"X: " + b"x" * connections.HEAD_BYTES + b"\r\n\r\n",
        GET + b"".join(b"X-%d: y\r\n" % n for n in range(connections.HEAD_FIELDS)) + b"\r\n",
        b"GET /" + b"x" * connections.HEAD_BYTES + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=["long field", "many fields", "long path"],
)
async def test_a_head_that_is_too_large_is_said_to_be(served, head):
    status, problem = await served.answer(head)
    assert (status, problem["code"]) == (431, "head-too-large")
    assert str(connections.HEAD_BYTES) in problem["detail"]


async def test_heads_are_counted_one_by_one(served):
    """One connection may carry any number of them."""
    head = GET + b"X: " + b"x" * 20_000 + b"\r\n\r\n"
    reader, writer = await served.connect()
    for _ in range(5):
        writer.write(head)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert json.loads(await reader.readexactly(15)) == {"status": "ok"}


@pytest.mark.parametrize("sent", [b"G", GET, GET + b"X: y", b"\r\n", b""])
async def test_a_head_that_does_not_come_is_not_waited_for(served, monkeypatch, sent):
    short(monkeypatch, 0.2)
    found = await served.answer(sent)
    assert found is None if not sent else found[0] == 408


async def test_half_a_head_behind_a_whole_request_is_not_waited_for(served, monkeypatch):
    short(monkeypatch, 0.2)
    reader, writer = await served.connect(GET + b"\r\n")
    await reader.readuntil(b'"ok"}')
    writer.write(b"GET /hea")
    assert (await said(reader))[0] == 408


def post(path, key, length, *more):
    return (
        b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Authorization: Bearer %s\r\n\r\n" % (path.encode(), length, key.encode())
    )


async def test_a_body_that_does_not_come_is_not_waited_for(served, monkeypatch):
    short(monkeypatch, 0.2)
    status, problem = await served.answer(post("/v1/experiments", ADMIN_KEY, 50), b'{"name": ')
    assert (status, problem["code"]) == (408, "too-slow")


async def test_a_body_that_trickles_is_not_waited_for(served, monkeypatch):
    """Some bytes now and then are not enough."""
    short(monkeypatch, 0.3)
    reader, writer = await served.connect(post("/v1/experiments", ADMIN_KEY, 60_000))

    async def trickle():
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.01)

    refused, end = [], BoundedProtocol._end
    monkeypatch.setattr(
        BoundedProtocol, "_end", lambda own, why: (refused.append(why), end(own, why))
    )
    task = asyncio.create_task(trickle())
    try:
        found = await said(reader)
    finally:
        task.cancel()
    assert [code for _, code, _ in refused] == ["too-slow"]
    # To a client that goes on sending, a reset may come before the answer.
    assert found is None or found[0] == 408


async def test_a_body_that_comes_steadily_may_take_its_time(served, federation, monkeypatch):
    short(monkeypatch, 0.4)
    monkeypatch.setattr(connections, "BODY_BYTES", 1000)
    body = json.dumps({"name": "x", "config": config().model_dump()}).encode()
    body += b" " * (40_000 - len(body))
    reader, writer = await served.connect(post("/v1/experiments", ADMIN_KEY, len(body)))
    for start in range(0, len(body), 4000):  # a second in all
        writer.write(body[start : start + 4000])
        await asyncio.sleep(0.1)
    assert b" 201 " in await reader.readuntil(b"\r\n")


async def test_an_answer_that_is_held_back_is_waited_for(served, federation, monkeypatch):
    short(monkeypatch, 0.1)
    views = federation.app.state.coordinator.views

    async def slow(*_):
        await asyncio.sleep(0.6)
        return []

    monkeypatch.setattr(views, "experiments", slow)
    reader, _ = await served.connect(b"GET /v1/experiments HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b" 200 " in await reader.readuntil(b"\r\n")


async def test_a_body_that_was_answered_unread_does_not_go_on_for_ever(served, monkeypatch):
    monkeypatch.setattr(connections, "DRAIN_BYTES", 1024**2)
    _, writer = await served.connect(post("/v1/experiments", "nobody", 64 * 1024**2))
    taken = 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(20):
            while taken < 64 * 1024**2:
                writer.write(b"x" * 65536)
                await writer.drain()
                taken += 65536
    assert taken < 32 * 1024**2


async def test_who_waits_gives_way_to_who_comes(served):
    """Half heads of one address, many more than it may have: whoever comes then is answered."""
    readers = [(await served.connect(GET))[0] for _ in range(60)]
    assert await healthy(served)
    assert len(served.places.open) <= served.places.per_address + 1
    gone = 0
    for reader in readers[:30]:
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
        gone += 1
    assert gone == 30


async def test_where_places_run_out_the_fullest_address_gives_way(served, monkeypatch):
    served.places.most = 10
    addresses = iter(["192.0.2.1"] + ["192.0.2.2"] * 30 + ["192.0.2.3"])
    monkeypatch.setattr(connections, "network", lambda _: next(addresses))
    kept, _ = await served.connect(GET)
    for _ in range(30):
        await served.connect(GET)
    await asyncio.sleep(0.1)
    _, writer = last = await served.connect(GET + b"\r\n")
    assert b" 200 " in await last[0].readuntil(b"\r\n")
    assert "192.0.2.1" in served.places.waiting  # who has one keeps it
    assert len(served.places.open) <= 10
    assert not kept.at_eof()
    writer.close()


async def test_who_is_being_answered_keeps_its_place(served, federation, monkeypatch):
    served.places.per_address = 1
    go_on = asyncio.Event()

    async def slow(*_):
        await go_on.wait()
        return []

    monkeypatch.setattr(federation.app.state.coordinator.views, "experiments", slow)
    asked = b"GET /v1/experiments HTTP/1.1\r\nHost: a\r\n\r\n"
    readers = [(await served.connect(asked))[0] for _ in range(5)]
    await asyncio.sleep(0.1)
    assert await healthy(served)
    go_on.set()
    for reader in readers:
        assert b" 200 " in await reader.readuntil(b"\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS, to a port that has none
    ],
    ids=["two lengths", "length and chunks", "no coding", "negative", "space", "TLS"],
)
async def test_what_is_no_request_is_answered_with_a_problem(served, sent):
    status, problem = await served.answer(sent)
    assert (status, problem["code"]) == (400, "malformed-request")


async def test_a_header_of_a_proxy_does_not_hide_the_other_end(monkeypatch):
    """uvicorn believes X-Forwarded-For of this machine; a certificate needs the true other end."""
    found = {}

    async def app(scope, receive, send):
        found.update(client=scope["client"][0], peer=scope["state"][PEER])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    monkeypatch.setattr(connections, "places", lambda: Places(10, 10))
    async with Served(app) as served:
        sent = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n"
        reader, _ = await served.connect(sent)
        assert b" 204 " in await reader.readuntil(b"\r\n")
    assert found == {"client": "192.0.2.9", "peer": "127.0.0.1"}
