"""Polls whose answer is held back until there is something to do."""

import asyncio
from dataclasses import replace

import pytest

from app.config import Settings
from app.entry.container import platform_settings
from app.service.clients import long_poll
from client_sdk.errors import RequestRefused
from serverless_fl.domain.errors import StoreUnavailable
from serverless_fl.wire.turns import Done, Train, Wait
from tests.support.plain_http import bearer


@pytest.fixture
async def holding(federation, monkeypatch):
    """A coordinator that holds answers; it looks at the store by itself only when told to."""
    federation.limits = replace(federation.limits, hold_seconds=20.0)
    federation.app.state.coordinator = federation.coordinator()
    monkeypatch.setattr(long_poll, "CHECK_SECONDS", 3600.0)
    return federation


async def waiter(federation, member, known=1, seconds=20):
    """A poll that is being held."""
    before = service(federation).long_polls.waiting
    poll = asyncio.create_task(member.api.status(member.experiment_id, hold=seconds, known=known))
    while service(federation).long_polls.waiting == before:
        assert not poll.done(), poll.result()
        await asyncio.sleep(0.001)
    return poll


def service(federation):
    return federation.app.state.coordinator


async def two_of_four(federation, **changes):
    """The cohort of the first round, and the others."""
    experiment, key = await federation.create(**changes)
    members = [await federation.enrol(experiment, key, n) for n in range(4)]
    shown = await federation.admin.round(experiment, 1)
    inside = [m for m in members if m.id in shown.cohort]
    return inside, [m for m in members if m not in inside]


async def test_an_answer_to_wait_says_whether_the_next_one_may_be_held(holding):
    _, (outside, _) = await two_of_four(holding)
    assert (await outside.status()).hold == 20.0
    holding.app.state.coordinator = holding.coordinator(
        limits=replace(holding.limits, hold_seconds=0.0)
    )
    assert (await outside.status()).hold == 0.0
    # Asked for all the same, it is answered at once.
    assert isinstance(await outside.api.status(outside.experiment_id, hold=20, known=1), Wait)


async def test_who_waits_hears_of_the_next_round_when_it_opens(holding):
    inside, outside = await two_of_four(holding, rounds=3)
    polls = [await waiter(holding, member) for member in outside]
    await inside[0].upload(1, 1.0)
    await asyncio.sleep(0.05)
    assert not any(poll.done() for poll in polls)  # the round goes on
    polls.append(await waiter(holding, inside[0]))
    await inside[1].upload(1, 2.0)
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*polls)
    assert {answer.round for answer in answers} == {2}
    assert sum(isinstance(answer, Train) for answer in answers) >= 1
    assert service(holding).long_polls.waiting == 0
    assert not service(holding).long_polls._watchers


async def test_who_waits_hears_of_the_end(holding):
    _, (outside, _) = await two_of_four(holding)
    poll = await waiter(holding, outside)
    await holding.admin.stop_experiment(outside.experiment_id)
    async with asyncio.timeout(10):
        assert isinstance(await poll, Done)


async def test_who_enrols_hears_of_the_first_round(holding):
    experiment, key = await holding.create()
    first = await holding.enrol(experiment, key, 0)
    poll = await waiter(holding, first, known=0)
    for number in (1, 2, 3):
        await holding.enrol(experiment, key, number)
    async with asyncio.timeout(10):
        assert (await poll).round == 1


async def test_what_another_process_did_is_found_by_looking(holding, monkeypatch):
    monkeypatch.setattr(long_poll, "CHECK_SECONDS", 0.01)
    _, (outside, _) = await two_of_four(holding)
    poll = await waiter(holding, outside)
    other = holding.coordinator()
    await other.experiments.stop(outside.experiment_id, "by another", "admin")
    async with asyncio.timeout(10):
        assert isinstance(await poll, Done)


async def test_a_deadline_strikes_though_everybody_waits(holding, monkeypatch):
    monkeypatch.setattr(long_poll, "CHECK_SECONDS", 0.01)
    inside, (outside, _) = await two_of_four(holding)
    await inside[0].upload(1, 1.0)
    poll = await waiter(holding, outside)
    holding.clock.now += 61
    async with asyncio.timeout(10):
        assert (await poll).round == 2


async def test_nothing_is_held_that_is_news(holding):
    inside, (outside, _) = await two_of_four(holding)
    assert isinstance(await inside[0].api.status(inside[0].experiment_id, hold=20, known=1), Train)
    assert isinstance(await outside.api.status(outside.experiment_id, hold=20, known=0), Wait)
    assert service(holding).long_polls.waiting == 0


async def test_after_the_time_that_was_asked_for_the_answer_is_to_wait_as_before(holding):
    _, (outside, _) = await two_of_four(holding)
    poll = await waiter(holding, outside, seconds=1)
    async with asyncio.timeout(10):
        answer = await poll
    assert isinstance(answer, Wait)
    assert answer.round == 1


async def test_only_so_many_are_held_and_the_others_are_told_to_poll(holding, monkeypatch):
    monkeypatch.setattr(long_poll, "MAX_WAITING", 1)
    _, (one, other) = await two_of_four(holding)
    poll = await waiter(holding, one)
    answer = await other.api.status(other.experiment_id, hold=20, known=1)
    assert isinstance(answer, Wait)
    assert answer.hold == 0.0
    service(holding).long_polls.close()
    await poll


async def test_one_client_does_not_take_the_places_of_all(holding, monkeypatch):
    monkeypatch.setattr(long_poll, "MAX_OF_ONE", 2)
    _, (one, other) = await two_of_four(holding)
    polls = [await waiter(holding, one) for _ in range(2)]
    answer = await one.api.status(one.experiment_id, hold=20, known=1)
    assert isinstance(answer, Wait)
    assert answer.hold == 0.0
    polls.append(await waiter(holding, other))
    service(holding).long_polls.close()
    await asyncio.gather(*polls)
    assert not service(holding).long_polls._of_one


@pytest.mark.parametrize("query", ["wait=20&round=1", "round=1&wait=20.0"])  # both ways to answer
async def test_a_poll_is_held_no_longer_than_its_connection_lives(holding, query):
    _, (outside, _) = await two_of_four(holding)
    hung_up = asyncio.Event()
    body = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive():
        if (message := next(body, None)) is not None:
            return message
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(_):
        pass

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": f"/v1/experiments/{outside.experiment_id}/status",
        "raw_path": b"",
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (b"host", b"test"),
            (b"authorization", f"Bearer {outside.api.connection.key}".encode()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
    }
    call = asyncio.create_task(holding.app(scope, receive, send))
    while not service(holding).long_polls.waiting:
        assert not call.done()
        await asyncio.sleep(0.001)
    hung_up.set()
    async with asyncio.timeout(10):
        await call
    assert service(holding).long_polls.waiting == 0


async def test_all_are_answered_when_the_server_stops(holding):
    _, outside = await two_of_four(holding)
    polls = [await waiter(holding, member) for member in outside]
    service(holding).long_polls.close()
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*polls)
    assert [answer.hold for answer in answers] == [0.0, 0.0]


async def test_a_store_that_goes_away_is_told_to_those_who_wait(holding, monkeypatch):
    monkeypatch.setattr(long_poll, "CHECK_SECONDS", 0.01)
    _, (outside, _) = await two_of_four(holding)
    poll = await waiter(holding, outside)

    async def away(*_):
        raise StoreUnavailable("away")

    monkeypatch.setattr(service(holding).rounds, "advance", away)
    async with asyncio.timeout(10):
        with pytest.raises(RequestRefused, match="database"):
            await poll


async def test_a_poll_that_was_held_counts_as_the_work_that_it_was(holding):
    _, (outside, _) = await two_of_four(holding)
    headers = bearer(outside.token)
    url = f"/v1/experiments/{outside.experiment_id}/status?wait=1&round=1"
    answer = await holding.http.get(url, headers=headers)
    milliseconds = float(answer.headers["server-timing"].removeprefix("total;dur="))
    assert answer.elapsed.total_seconds() * 1000 - milliseconds > 900  # but for rounding


@pytest.mark.parametrize("query", ["wait=26&round=1", "wait=-1&round=1", "wait=x", "round=-1"])
async def test_what_cannot_be_waited_for_is_refused(holding, query):
    _, (outside, _) = await two_of_four(holding)
    headers = bearer(outside.token)
    url = f"/v1/experiments/{outside.experiment_id}/status?{query}"
    assert (await holding.http.get(url, headers=headers)).status_code == 422


async def test_a_fraction_of_a_second_goes_the_long_way(holding):
    _, (outside, _) = await two_of_four(holding)
    headers = bearer(outside.token)
    url = f"/v1/experiments/{outside.experiment_id}/status?round=1&wait=0.05"
    assert (await holding.http.get(url, headers=headers)).json()["action"] == "wait"


async def test_the_serverless_entries_hold_nothing(federation):
    assert platform_settings(Settings(), 1 << 20)["hold_seconds"] == 0
