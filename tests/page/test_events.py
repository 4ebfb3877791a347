"""Server-sent events: what they tell, when they end, and that they are off where they must be."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading

import httpx
import pytest

from app.api.edge import streams
from app.api.routes import events
from app.config import Settings
from app.main import create_app
from tests.support.federation import ADMIN_KEY, BOTH_STORES
from tests.support.processes import Server, wait_for
from tests.support.some import some


class Follower(threading.Thread):
    """Reads a stream to its end, as a browser would."""

    def __init__(self, url: str, **headers: str) -> None:
        super().__init__(daemon=True)
        self.url, self.headers, self.text = url, headers, ""
        self.ended = threading.Event()
        self.start()

    def run(self) -> None:
        with httpx.stream(
            "GET", self.url, headers=self.headers, timeout=60, trust_env=False
        ) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            try:
                for chunk in answer.iter_text():
                    self.text += chunk
            except httpx.TransportError:
                pass
        self.ended.set()

    @property
    def views(self) -> list[dict]:
        lines = self.text[: self.text.rfind("\n\n")].splitlines()
        return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]

    @property
    def ids(self) -> list[int]:
        return [int(line[4:]) for line in self.text.splitlines() if line.startswith("id: ")]


@pytest.fixture
async def view_count(federation, monkeypatch):
    """How many whole views were put together; nothing waits."""
    made = []
    whole = federation.app.state.coordinator.views.as_stored

    async def counted(*arguments):
        made.append(arguments)
        return await whole(*arguments)

    federation.app.state.coordinator.views.as_stored = counted
    monkeypatch.setattr(events, "CHECK_SECONDS", 0.0)
    return made


async def stream_of(federation, experiment: str, after: int = 0):
    """The route's own generator: httpx's ASGI transport waits for whole answers."""
    service = federation.app.state.coordinator
    mark = await service.watch.mark(experiment)
    first = await service.views.as_stored(experiment, after)
    return events._stream(federation.app.state.live, service, first, mark, after)


@BOTH_STORES
async def test_a_view_is_made_only_when_something_changed(federation, view_count):
    experiment, members = await federation.start(rounds=2)
    stream = await stream_of(federation, experiment)
    assert await anext(stream) == "retry: 2000\n\n"
    assert '"round":1' in await anext(stream)
    events_seen = []
    for number in (1, 2):
        for client in await federation.cohort(experiment):
            view_count.clear()
            await members[client].upload(number, 1.0)
            text = await anext(stream)
            while text.startswith(":"):
                text = await anext(stream)
            events_seen.append(json.loads(text.split("data: ")[1]))
            assert len(view_count) == 1
    assert events_seen[-1]["state"] == "completed"
    # Round 1 was shown as closed once; what comes after does not repeat it.
    assert [[r["number"] for r in e["history"]] for e in events_seen] == [[1], [1, 2], [2], [2]]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_quiet_stream_makes_no_views_and_beats(federation, view_count, monkeypatch):
    experiment, _ = await federation.start()
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.0)
    stream = await stream_of(federation, experiment)
    await anext(stream)
    await anext(stream)
    view_count.clear()
    assert [await anext(stream) for _ in range(3)] == [": quiet\n\n"] * 3
    assert view_count == []
    federation.app.state.live.closing.set()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_late_evaluations_are_a_change(federation):
    experiment, _ = await federation.create()
    watch = federation.app.state.coordinator.watch
    before = await watch.mark(experiment)
    await federation.admin.report_evaluation(experiment, 0, 10, {"accuracy": 0.5})
    assert await watch.mark(experiment) != before
    shown = await federation.http.get(f"/v1/experiments/{experiment}")
    assert shown.json()["evaluations"] == 1


async def test_history_and_models_are_left_out_up_to_what_is_known(federation):
    experiment, members = await federation.start(rounds=2)
    for number in (1, 2):
        for client in await federation.cohort(experiment):
            await members[client].upload(number, 1.0)
    path = f"/v1/experiments/{experiment}"
    for after, left in [(0, [1, 2]), (1, [2]), (2, []), (9, [])]:
        shown = await federation.http.get(path, params={"after_round": after})
        assert [r["number"] for r in shown.json()["history"]] == left
    await federation.admin.report_evaluation(experiment, 1, 10, {"accuracy": 0.5})
    for after, left in [(-1, [0, 1, 2]), (0, [1, 2]), (1, [2]), (2, [])]:
        models = (await federation.http.get(f"{path}/models", params={"after": after})).json()
        assert [m["version"] for m in models] == left
        evaluated = [m["version"] for m in models if m["evaluations"]]
        assert evaluated == [v for v in left if v == 1]
    history = (await federation.http.get(path)).json()["history"]
    assert all(len(r["contributors"]) == r["accepted"] == 2 for r in some(history))


async def test_unknown_experiments_and_full_houses_are_problems(federation, monkeypatch):
    answer = await federation.http.get("/v1/experiments/nowhere/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    experiment, _ = await federation.create()
    monkeypatch.setattr(streams, "MAX_STREAMS", 0)
    answer = await federation.http.get(f"/v1/experiments/{experiment}/events")
    assert answer.status_code == 503
    assert "poll" in answer.json()["detail"]


async def test_those_who_come_at_once_are_no_more_than_may_watch(federation, monkeypatch):
    """Each is counted while its first view is put together, too."""
    monkeypatch.setattr(streams, "MAX_STREAMS", 3)
    experiment, _ = await federation.create()
    live, service = federation.app.state.live, federation.app.state.coordinator
    begun, go_on = asyncio.Event(), asyncio.Event()
    mark = service.watch.mark

    async def slow(experiment_id):
        begun.set()
        await go_on.wait()
        return await mark(experiment_id)

    monkeypatch.setattr(service.watch, "mark", slow)
    url = f"/v1/experiments/{experiment}/events"
    readers = [asyncio.create_task(federation.http.get(url)) for _ in range(3)]
    await begun.wait()
    while live.open < 3:
        await asyncio.sleep(0)
    assert (await federation.http.get(url)).status_code == 503
    live.closing.set()  # the streams end at once
    go_on.set()
    assert {answer.status_code for answer in await asyncio.gather(*readers)} == {200}
    assert live.open == 0


async def test_one_address_does_not_take_the_places_of_all(federation, monkeypatch):
    monkeypatch.setattr(streams, "MAX_OF_ONE", 2)
    experiment, _ = await federation.create()
    live = federation.app.state.live
    url = f"/v1/experiments/{experiment}/events"
    with live.place("127.0.0.1"), live.place("127.0.0.1"):
        assert (await federation.http.get(url)).status_code == 503
        assert live.open == 2  # whoever is refused takes none
        elsewhere = httpx.ASGITransport(federation.app, client=("192.0.2.1", 1))
        live.closing.set()  # the streams end at once
        async with httpx.AsyncClient(transport=elsewhere, base_url="http://test") as other:
            assert (await other.get(url)).status_code == 200
    assert (await federation.http.get(url)).status_code == 200


async def test_where_it_is_off_it_says_so_and_the_page_knows():
    app = create_app(Settings(admin_key=ADMIN_KEY, live=False))
    app.state.coordinator = None  # it isn't asked
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.get("/v1/experiments/x/events")
        assert answer.status_code == 404
        assert "FL_LIVE" in answer.json()["detail"]
        assert 'data-live="off"' in (await http.get("/")).text


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_watched_still_stops(tmp_path, stop):
    from tests.support.plain_http import create, enrol

    with Server(FL_DATA_DIR=str(tmp_path)) as server:
        with server.as_admin() as http:
            experiment, key = create(http, "watched")
            follower = Follower(f"{server.url}/v1/experiments/{experiment}/events")
            wait_for(lambda: follower.views)
            enrol(http, experiment, key, "one")
            wait_for(lambda: len(follower.views) == 2)
        assert [v["enrolled"] for v in follower.views] == [0, 1]
        os.killpg(server.process.pid, stop)
        _, errors = server.process.communicate(timeout=60)
        assert "Traceback" not in errors
        assert follower.ended.wait(60)
