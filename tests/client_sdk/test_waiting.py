"""How a client waits for its turn: with an answer that is held back, or with pauses."""

import asyncio

import httpx
import pytest

from client_sdk.api import client as client_module
from client_sdk.api.client import CoordinatorClient
from serverless_fl.wire.turns import Done, Wait


class Coordinator(httpx.AsyncBaseTransport):
    """Answers `answers`, one after the other, and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def handle_async_request(self, request):
        self.asked.append(request)
        return httpx.Response(200, content=self.answers.pop(0).model_dump_json())


def waiting(hold, known=1, retry_after=7.0):
    return Wait(round=known, retry_after=retry_after, message="", hold=hold)


DONE = Done(state="completed", reason="", model_version=1)


@pytest.fixture
def pauses(monkeypatch):
    """What the client would have slept."""
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(client_module.asyncio, "sleep", sleep)
    return slept


async def next_of(last, *answers):
    transport = Coordinator(*answers)
    async with CoordinatorClient("http://c", "k", transport=transport, timeout=5.0) as client:
        return await client.next_status("e", last), transport.asked


async def test_where_answers_are_held_the_client_asks_at_once(pauses):
    found, (request,) = await next_of(waiting(20), DONE)
    assert isinstance(found, Done)
    assert request.url.query == b"wait=20&round=1"
    assert request.extensions["timeout"]["read"] > 20  # of a client that gives up after five
    assert pauses == []


async def test_where_they_are_not_it_pauses_as_long_as_it_was_told_to(pauses):
    _, (request,) = await next_of(waiting(0), DONE)
    assert request.url.query == b""
    assert pauses == [7.0]


async def test_it_never_asks_more_of_a_coordinator_than_any_takes(pauses):
    _, (request,) = await next_of(waiting(3600), DONE)
    assert request.url.query == b"wait=25&round=1"


async def test_an_answer_that_was_not_held_is_followed_by_a_pause(pauses):
    found, _ = await next_of(waiting(20), waiting(20))
    assert isinstance(found, Wait)
    (pause,) = pauses
    assert 6 < pause <= 7


async def test_news_of_another_round_is_not(pauses):
    await next_of(waiting(20), waiting(20, known=2))
    assert pauses == []


async def test_of_many_clients_over_one_connection_only_some_keep_it_busy(monkeypatch):
    monkeypatch.setattr("client_sdk.api.client.MAX_HELD", 2)
    going_on = asyncio.Event()
    held, plain = [], []

    class Holding(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            (held if request.url.query else plain).append(request)
            if request.url.query:
                await going_on.wait()
            return httpx.Response(200, content=DONE.model_dump_json())

    async with CoordinatorClient("http://c", "k", transport=Holding()) as client:
        callers = [client.using(f"k{n}") for n in range(5)]
        last = waiting(20, retry_after=0.001)
        tasks = [asyncio.create_task(c.next_status("e", last)) for c in callers]
        while len(plain) < 3:
            await asyncio.sleep(0.001)
        assert len(held) == 2
        going_on.set()
        await asyncio.gather(*tasks)
