"""What webhooks are told: each end, pause and stall, at least once, whatever dies."""

from __future__ import annotations

import json

import pytest

from app.service.notices.delivery import FIRST_PAUSE, MOST_TRIES, RECENT
from tests.support.dying import Died, DyingStore, Fuse

DAY = 86_400.0


class Hook:
    """An address that takes what it is told, unless it is `away`."""

    def __init__(self, *urls):
        self.urls = urls or ("https://example.org/hook",)
        self.away, self.got = set(), []

    async def post(self, url, notice, body):
        self.got.append((url, notice, json.loads(body)))
        return "status 503" if url in self.away else ""

    def types(self):
        return [body["type"] for _, _, body in self.got]


@pytest.fixture
def hook():
    return Hook()


async def play(federation, experiment, members, number, value=1.0):
    for member in await federation.cohort(experiment):
        await members[member].upload(number, value)


async def tick(federation, hook, seconds=0.0, **stores):
    """One tick, by a process of its own."""
    federation.clock.now += seconds
    await federation.coordinator(webhooks=hook, **stores).tick()


async def test_the_end_is_told_once(federation, hook):
    experiment, members = await federation.start(rounds=1)
    await tick(federation, hook)
    assert hook.got == []
    await play(federation, experiment, members, 1)
    for _ in range(3):
        await tick(federation, hook, FIRST_PAUSE)
    ((url, notice, body),) = hook.got
    assert url == hook.urls[0]
    assert notice.startswith(f"{experiment}/ended.")
    assert body == {
        "type": "experiment.ended",
        "timestamp": "1970-01-12T13:46:40+00:00",
        "data": {
            **{"experiment": experiment, "name": "toy", "state": "completed"},
            **{"reason": body["data"]["reason"], "round": 1, "rounds": 1},
        },
    }
    assert body["data"]["reason"]


async def test_pauses_and_ends_are_told_as_often_as_they_happen(federation, hook):
    experiment, members = await federation.start(rounds=2)
    await federation.admin.pause_experiment(experiment)
    await play(federation, experiment, members, 1)
    await tick(federation, hook, 1)
    await federation.admin.resume_experiment(experiment)
    federation.clock.now += 1
    await play(federation, experiment, members, 2)
    await tick(federation, hook, 1)
    await federation.admin.resume_experiment(experiment, rounds=3)
    await federation.admin.stop_experiment(experiment)
    await tick(federation, hook, 1)
    assert hook.types() == ["experiment.paused", "experiment.ended", "experiment.ended"]
    assert [body["data"]["state"] for _, _, body in hook.got] == ["paused", "completed", "stopped"]
    assert len({notice for _, notice, _ in hook.got}) == 3


async def test_a_round_that_is_tried_again_is_a_stall(federation, hook):
    await federation.start(max_attempts=3)
    await tick(federation, hook, 61)
    await tick(federation, hook, 61)
    await tick(federation, hook, 61)
    assert hook.types() == ["experiment.stalled", "experiment.stalled", "experiment.ended"]
    reasons = [body["data"]["reason"] for _, _, body in hook.got]
    assert reasons[1] == ("Attempt 2 at round 1 got 0 updates of 2: the round is tried again.")
    assert hook.got[2][2]["data"]["state"] == "failed"


async def test_an_address_that_is_away_is_tried_again_later_and_holds_up_no_other(federation):
    hook = Hook("https://here.example/", "https://away.example/")
    hook.away = {"https://away.example/"}
    experiment, _ = await federation.start()
    await federation.admin.stop_experiment(experiment)
    await tick(federation, hook)
    await tick(federation, hook, FIRST_PAUSE - 1)
    assert sorted(url for url, _, _ in hook.got) == [
        "https://away.example/",
        "https://here.example/",
    ]
    await tick(federation, hook, 1)
    hook.away = set()
    await tick(federation, hook, FIRST_PAUSE)  # the next try is later than that
    assert len(hook.got) == 3
    await tick(federation, hook, FIRST_PAUSE)
    await tick(federation, hook, DAY)
    assert [url for url, _, _ in hook.got[2:]] == ["https://away.example/"] * 2
    assert len({notice for _, notice, _ in hook.got}) == 1


async def test_it_is_given_up_after_a_while(federation, hook):
    hook.away = set(hook.urls)
    experiment, _ = await federation.start()
    await federation.admin.stop_experiment(experiment)
    for _ in range(MOST_TRIES + 3):
        await tick(federation, hook, 0.2 * DAY)
    assert len(hook.got) == MOST_TRIES


async def test_old_news_are_not_told(federation, hook):
    experiment, _ = await federation.start()
    await federation.admin.stop_experiment(experiment)
    await tick(federation, hook, RECENT)
    assert hook.got == []


async def test_nothing_is_told_of_what_was_deleted(federation, hook):
    experiment, _ = await federation.start()
    hook.away = set(hook.urls)
    await federation.admin.stop_experiment(experiment)
    await tick(federation, hook)
    assert len(await federation.documents.keys("notices", experiment)) == 1
    await federation.admin.delete_experiment(experiment)
    assert await federation.documents.keys("notices", experiment) == []
    await tick(federation, hook, DAY)
    assert len(hook.got) == 1


async def test_a_process_that_has_told_it_looks_no_more(federation, hook):
    experiment, _ = await federation.start()
    await federation.admin.stop_experiment(experiment)
    coordinator = federation.coordinator(webhooks=hook)
    await coordinator.tick()
    found = await coordinator.context.repo.experiment(experiment)
    assert not coordinator.ticks.notices.concerns(found)
    assert federation.coordinator(webhooks=hook).ticks.notices.concerns(found)
    assert not federation.coordinator().ticks.notices.concerns(found)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("write", [1, 2])
async def test_a_death_at_any_write_loses_nothing(federation, hook, write, after):
    """A death before the record of the delivery is written has it told twice, with one id."""
    experiment, _ = await federation.start()
    await federation.admin.stop_experiment(experiment)
    await tick(federation, None)  # what else there is to do
    documents = DyingStore(federation.documents, Fuse(write, after))
    with pytest.raises(Died):
        await tick(federation, hook, documents=documents)
    await tick(federation, hook, FIRST_PAUSE)
    await tick(federation, hook, DAY)
    told = {(1, False): 1, (1, True): 1, (2, False): 2, (2, True): 1}
    assert len(hook.got) == told[write, after]
    assert len({notice for _, notice, _ in hook.got}) == 1


async def test_two_ticks_at_once_tell_it_once(federation, hook):
    """The other tick sees the record of the try, which comes before the try."""
    experiment, _ = await federation.start()
    await federation.admin.stop_experiment(experiment)

    class Meanwhile(Hook):
        async def post(self, url, notice, body):
            await tick(federation, hook)
            return await super().post(url, notice, body)

    first = Meanwhile()
    await tick(federation, first)
    assert len(first.got) == 1
    assert hook.got == []
