"""What is asked of the network: kept connections, repeats, limits of time, URLs as they came."""

import asyncio
import errno
import hashlib
import os
import socket
import warnings

import httpx
import pytest

from client_sdk import errors
from client_sdk.api import connection
from client_sdk.api.connection import Connection, Retry
from tests.support.loopback import OK, Server, saying, silent, take, well


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
    ],
    ids=["none", "no HTTP", "cut", "cut chunk"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_broken_answer_is_none(caller, answer, method):
    async with Server(saying(answer)) as server, caller(server) as api:
        with pytest.raises(errors.CoordinatorUnreachable, match=server.url):
            await api.request(method, "/x")


async def test_an_answer_may_be_in_chunks_or_empty(caller):
    async def kinds(server, number, reader, writer):
        writer.write(
            {
                b"chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
                b"none": b"HTTP/1.1 204 No Content\r\n\r\n",
            }[server.heads[-1].split()[1].removeprefix(b"/v1/")]
        )

    async with Server(kinds) as server, caller(server) as api:
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


async def test_a_refusal_that_comes_before_the_upload_is_through_counts(caller):
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"

    async def refuse(server, number, reader, writer):
        writer.write(refusal)
        await writer.drain()
        await take(server, reader)  # without that, the refusal may be lost on its way

    async with Server(refuse) as server, caller(server) as api:
        for _ in range(2):
            with pytest.raises(errors.RequestRefused) as caught:
                await api.request("PUT", "/x", content=bytes(20_000_000))
            assert caught.value.status == 413


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
            "PUT",
            f"{server.url}/a%2Fb/~c%7E/d?{query}#e",
            content=b"x",
            headers={"If-None-Match": "*"},
        )
    line, *headers = server.heads[0].rstrip().split(b"\r\n")
    assert line == f"PUT /a%2Fb/~c%7E/d?{query} HTTP/1.1".encode()
    assert {h.split(b":")[0].decode().lower() for h in headers} == {
        *("host", "accept", "accept-encoding", "connection", "user-agent", "content-length"),
        "if-none-match",
    }
    assert server.bodies == [b"x"]


async def test_a_header_that_cannot_be_sent_is_not(caller):
    async with Server(well) as server, caller(server) as api:
        with pytest.raises(errors.BadAnswer):
            await api.direct("PUT", f"{server.url}/x", headers={"If-None-Match": "1\r\nX-Other: 2"})
    assert not server.heads


async def test_a_name_that_nobody_has_is_unreachable(caller):
    class Nobody:
        url = "http://nobody.invalid"

    async with caller(Nobody) as api:
        with pytest.raises(errors.CoordinatorUnreachable, match="nobody"):
            await api.request("GET", "/x")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed"), os.strerror(errno.ECONNREFUSED)),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (OSError(errno.ECONNRESET, "x"), os.strerror(errno.ECONNRESET)),
    ],
)
async def test_the_systems_own_words_say_what_failed(fault, words):
    class Failing(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            raise httpx.ConnectError("All connection attempts failed") from fault

    async with Connection("http://c", retry=Retry(give_up_after=0), transport=Failing()) as api:
        with pytest.raises(
            errors.CoordinatorUnreachable, match=f"http://c did not answer: {words}$"
        ):
            await api.request("GET", "/x")
