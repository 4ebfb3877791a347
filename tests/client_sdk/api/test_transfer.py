"""Files over slow and broken lines: what brings a part goes on, what brings none ends."""

import asyncio
import hashlib

import httpx
import pytest

from client_sdk import errors
from client_sdk.api import connection
from client_sdk.api.client import CoordinatorClient
from client_sdk.api.connection import Retry
from client_sdk.api.parts import TRIES
from client_sdk.api.upload import Upload

DATA = bytes(range(100))
SIZE = 10  # of a part


def digest(data):
    return hashlib.sha256(data).hexdigest()


class SlowStore(httpx.AsyncBaseTransport):
    """A coordinator with a blob store whose URLs run out after so many parts of a round."""

    def __init__(self, a_round):
        self.a_round, self.left = a_round, 0
        self.stored, self.rounds = {}, 0

    async def handle_async_request(self, request):
        if request.url.host == "store":
            return await self._part(request)
        self.rounds += 1
        self.left = self.a_round(self.rounds)
        plans = [
            {
                "number": n,
                "stored": n in self.stored,
                "upload": {"url": f"http://store/{n}", "headers": {}, "seconds": 9},
                "sha256": digest(DATA[n * SIZE :][:SIZE]),
                "size": SIZE,
                "url": f"http://store/{n}",
            }
            for n in range(len(DATA) // SIZE)
        ]
        if request.method == "GET":
            plans = plans if request.url.params["first"] == "0" else []
        return httpx.Response(200, json=plans)

    async def _part(self, request):
        await asyncio.sleep(0)
        if self.left == 0:
            return httpx.Response(403, content=b"<Code>AccessDenied</Code>")
        self.left -= 1
        number = int(request.url.path[1:])
        self.stored[number] = await request.aread()
        return httpx.Response(200, content=DATA[number * SIZE :][:SIZE])


def client(store):
    return CoordinatorClient("http://c", "key", retry=Retry(give_up_after=0), transport=store)


async def test_an_upload_that_brings_a_part_each_round_goes_on():
    store = SlowStore(lambda number: 1)
    async with client(store) as api:
        await Upload(api.connection, "/x", DATA, SIZE, direct=True).send()
    assert b"".join(store.stored[n] for n in range(10)) == DATA
    assert store.rounds > TRIES


async def test_one_that_brings_none_is_given_up():
    store = SlowStore(lambda number: 1 if number <= 2 else 0)
    async with client(store) as api:
        with pytest.raises(errors.DirectRefused, match="AccessDenied"):
            await Upload(api.connection, "/x", DATA, SIZE, direct=True).send()
    assert len(store.stored) == 2
    assert store.rounds <= 2 + TRIES


async def test_rounds_in_vain_count_in_a_row():
    store = SlowStore(lambda number: number % 2)
    async with client(store) as api:
        await Upload(api.connection, "/x", DATA, SIZE, direct=True).send()
    assert store.rounds >= 19


async def test_a_download_that_brings_a_part_each_round_goes_on():
    store = SlowStore(lambda number: 2)  # as many rounds as requests for a page
    fetched = []
    part = store._part

    async def noted(request):
        answer = await part(request)
        fetched.append((request.url.path, answer.status_code))
        return answer

    store._part = noted
    async with client(store) as api:
        assert await api.download_model("x", 0, direct=True) == DATA
    # A part that is here is not asked for again.
    good = [path for path, status in fetched if status == 200]
    assert sorted(good) == [f"/{n}" for n in range(10)]


async def test_a_download_that_brings_none_is_given_up():
    store = SlowStore(lambda number: 0)
    async with client(store) as api:
        with pytest.raises(errors.DirectRefused):
            await api.download_model("x", 0, direct=True)
    assert store.rounds == 2 * TRIES  # a page and the end of the list, each


async def test_answers_that_are_held_back_take_no_place_of_an_upload():
    """As many polls as there may be requests under way wait; an upload goes past them."""
    going_on, polls = asyncio.Event(), 0

    class Holding(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            nonlocal polls
            if "wait=" in str(request.url):
                polls += 1
                await going_on.wait()
            done = {"action": "done", "state": "completed", "reason": "", "model_version": 1}
            return httpx.Response(200, json=done)

    async with CoordinatorClient("http://c", "key", transport=Holding()) as api:
        held = [
            asyncio.create_task(api.status("x", hold=20, known=1))
            for _ in range(2 * connection.MAX_BUSY)
        ]
        async with asyncio.timeout(30):
            while polls < len(held):
                await asyncio.sleep(0)
            await api.connection.request("PUT", "/x", content=b"an upload")
        going_on.set()
        await asyncio.gather(*held)


async def test_requests_that_are_not_held_wait_for_their_place():
    under_way = most = 0

    class Counting(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            for _ in range(5):
                await asyncio.sleep(0)
            under_way -= 1
            return httpx.Response(200)

    async with CoordinatorClient("http://c", "key", transport=Counting()) as api:
        await asyncio.gather(*(api.connection.request("GET", "/x") for _ in range(100)))
    assert most == connection.MAX_BUSY
