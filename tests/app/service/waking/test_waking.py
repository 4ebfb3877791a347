"""Wake-ups: whom a round waits for is called, at least once, whatever dies, and no round waits."""

from __future__ import annotations

import asyncio
import json

import pytest

from app.service.waking.delivery import FIRST_PAUSE, MOST_TRIES
from client_sdk.errors import StateConflict
from serverless_fl.domain.wake_ups import WakeRules, wake_key
from tests.support.dying import Died, DyingStore, Fuse
from tests.support.federation import key_of, weights


class Wakers:
    """A port that takes what it is told to call; `away` are the addresses that do not answer."""

    def __init__(self):
        self.rules, self.away, self.got = WakeRules(["*.example.org"]), set(), []

    def rule_for(self, address):
        return self.rules.rule_for(address)

    async def call(self, address, key, message, body):
        self.got.append((address, key, message, json.loads(body)))
        return "status 503" if address in self.away else ""

    def woken(self):
        """The clients that were called since the last look."""
        found = [body["data"]["client"] for *_, body in self.got]
        self.got.clear()
        return found


@pytest.fixture
def wakers():
    return Wakers()


def address_of(number):
    return f"https://c{number}.example.org/secret"


async def enrol(federation, experiment, key, number, address=None):
    where = address_of(number) if address is None else address
    found = await federation.admin.using(key).subscribe(
        experiment, key_of(number), f"c{number}", wake_address=where
    )
    return found.client_id, federation.admin.using(found.token)


async def start(federation, wakers, **changes):
    """A running experiment whose coordinator, process after process, calls the wakers."""
    federation.app.state.coordinator = federation.coordinator(wake_ups=wakers)
    settings = {"clients": 3, "clients_per_round": 2, "rounds": 2, **changes}
    experiment, key = await federation.create(**settings)
    members = dict([await enrol(federation, experiment, key, n) for n in range(3)])
    return experiment, key, members


async def tick(federation, wakers, seconds=0.0, **stores):
    federation.clock.now += seconds
    await federation.coordinator(wake_ups=wakers, **stores).tick()


async def test_the_cohort_is_called_once_in_each_round(federation, wakers):
    experiment, _, members = await start(federation, wakers)
    for number in (1, 2):
        cohort = await federation.cohort(experiment)
        for _ in range(3):
            await tick(federation, wakers, 1)
        assert {message for *_, message, _ in wakers.got} == {
            f"{experiment}/wake.{int(member[-1])}.{number}.1.collecting" for member in cohort
        }
        assert wakers.woken() == sorted(cohort)
        for member in cohort:
            await upload(members[member], experiment, number)
    for _ in range(3):
        await tick(federation, wakers, 1)
    # It has ended: each client hears so once, also one that no round has asked.
    assert {body["data"]["state"] for *_, body in wakers.got} == {"completed"}
    assert {body["data"]["round"] for *_, body in wakers.got} == {2}
    assert sorted(wakers.woken()) == sorted(members)


async def test_the_end_is_told_to_nobody_who_was_revoked_and_again_after_more_rounds(
    federation, wakers
):
    experiment, _, members = await start(federation, wakers, rounds=1, clients_per_round=2)
    for member in await federation.cohort(experiment):
        await upload(members[member], experiment, 1)
    await federation.admin.revoke_client(experiment, "client-01")
    await tick(federation, wakers, 1)
    assert sorted(wakers.woken()) == ["client-00", "client-02"]
    await tick(federation, wakers, FIRST_PAUSE)
    assert wakers.woken() == []
    await federation.admin.resume_experiment(experiment, rounds=2)
    await tick(federation, wakers, 1)
    cohort = wakers.woken()
    for member in cohort:
        await upload(members[member], experiment, 2)
    await tick(federation, wakers, 1)
    assert sorted(wakers.woken()) == ["client-00", "client-02"]


async def test_who_waits_for_the_end_hears_of_a_stop(federation, wakers):
    experiment, _, members = await start(federation, wakers)
    await tick(federation, wakers)
    wakers.got.clear()
    await federation.admin.stop_experiment(experiment)
    await tick(federation, wakers, 1)
    assert {body["data"]["state"] for *_, body in wakers.got} == {"stopped"}
    assert sorted(wakers.woken()) == sorted(members)


async def upload(api, experiment, number):
    await api.upload_update(experiment, number, weights(1.0), 10, {}, 1 << 20, at_once=True)


async def test_a_call_says_what_for_and_has_the_clients_own_key(federation, wakers):
    experiment, _, _ = await start(federation, wakers)
    await tick(federation, wakers)
    for address, key, _, body in wakers.got:
        slot = int(body["data"]["client"].removeprefix("client-"))
        assert address == address_of(slot)
        assert key == wake_key(key_of(slot), experiment)
        assert body == {
            "type": "client.due",
            "timestamp": body["timestamp"],
            "data": {
                **{"experiment": experiment, "client": f"client-{slot:02d}", "round": 1},
                **{"attempt": 1, "state": "collecting"},
            },
        }


async def test_who_has_reported_or_was_revoked_is_not_called(federation, wakers):
    experiment, _, members = await start(federation, wakers, clients_per_round=3)
    await upload(members["client-01"], experiment, 1)
    await federation.admin.revoke_client(experiment, "client-02")
    await tick(federation, wakers)
    assert wakers.woken() == ["client-00"]


async def test_another_attempt_calls_again_and_a_pause_nobody(federation, wakers):
    experiment, _, members = await start(federation, wakers, max_attempts=2)
    await tick(federation, wakers)
    first = wakers.woken()
    await tick(federation, wakers, 61)
    assert len(wakers.woken()) == len(first) == 2
    await federation.admin.pause_experiment(experiment)
    for member in await federation.cohort(experiment):
        await upload(members[member], experiment, 1)
    await tick(federation, wakers, 1)
    assert wakers.woken() == []


async def test_each_phase_of_secure_aggregation_calls_those_it_waits_for(federation, wakers):
    await start(federation, wakers, clients_per_round=3, secure_aggregation="pairs", min_clients=3)
    await tick(federation, wakers)
    assert {body["data"]["state"] for *_, body in wakers.got} == {"advertising"}
    assert len(wakers.woken()) == 3


async def test_an_address_that_is_away_is_tried_three_times_and_holds_up_no_other(
    federation, wakers
):
    experiment, _, _ = await start(federation, wakers, deadline_seconds=3600)
    away, here = await federation.cohort(experiment)
    wakers.away = {address_of(int(away[-1]))}
    await tick(federation, wakers)
    assert sorted(wakers.woken()) == sorted([away, here])
    await tick(federation, wakers, FIRST_PAUSE - 1)
    assert wakers.woken() == []
    for _ in range(MOST_TRIES + 2):
        await tick(federation, wakers, 4 * FIRST_PAUSE)
    assert wakers.woken() == [away] * (MOST_TRIES - 1)


async def test_time_that_is_up_leaves_the_others_to_the_next_tick(federation, wakers):
    experiment, _, _ = await start(federation, wakers)
    coordinator = federation.coordinator(wake_ups=wakers)
    await coordinator.ticks.waking.deliver([experiment], federation.clock.now)
    assert wakers.woken() == []
    await tick(federation, wakers)
    assert len(wakers.woken()) == 2


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("write", [1, 2])
async def test_a_death_at_any_write_loses_no_call(federation, wakers, write, after):
    """A death before the record of the call is written has it made twice, with one id."""
    await start(federation, wakers, clients_per_round=1, deadline_seconds=600)
    await tick(federation, None)  # what else there is to do
    documents = DyingStore(federation.documents, Fuse(write, after))
    with pytest.raises(Died):
        await tick(federation, wakers, documents=documents)
    for _ in range(3):
        await tick(federation, wakers, FIRST_PAUSE)
    told = {(1, False): 1, (1, True): 1, (2, False): 2, (2, True): 1}
    assert len({message for *_, message, _ in wakers.got}) == 1
    assert len(wakers.woken()) == told[write, after]


async def test_of_two_processes_at_once_one_calls(federation, wakers):
    await start(federation, wakers, clients_per_round=1)

    class Meanwhile(Wakers):
        async def call(self, *message):
            await tick(federation, wakers)
            return await super().call(*message)

    first = Meanwhile()
    await tick(federation, first)
    assert len(first.got) == 1
    assert wakers.got == []


async def test_a_server_calls_without_a_tick_when_it_has_moved_a_round(federation, wakers):
    coordinator = federation.coordinator(wake_ups=wakers)
    federation.app.state.coordinator = coordinator
    called = asyncio.Event()

    class Now(Wakers):
        async def call(self, *message):
            called.set()
            return await super().call(*message)

    now = Now()
    object.__setattr__(coordinator.context, "wake_ups", now)
    async with coordinator.ticks.waking.promptly(60):
        experiment, key = await federation.create(clients=1, clients_per_round=1, rounds=1)
        await enrol(federation, experiment, key, 0)
        await asyncio.wait_for(called.wait(), 30)
    assert now.woken() == ["client-00"]


async def test_the_view_shows_the_rule_and_never_the_address(federation, wakers):
    experiment, key, _ = await start(federation, wakers)
    shown = await federation.http.get(f"/v1/experiments/{experiment}/clients")
    assert [client["woken_by"] for client in shown.json()] == ["*.example.org"] * 3
    assert "secret" not in shown.text
    await enrol(federation, experiment, key, 0, "")  # it wants no more calls
    found = await federation.admin.clients(experiment)
    assert [client.woken_by for client in found] == ["", "*.example.org", "*.example.org"]
    path = f"/v1/experiments/{experiment}/clients?after=0&limit=1"
    (page,) = (await federation.http.get(path)).json()
    assert (page["id"], page["woken_by"]) == ("client-01", "*.example.org")
    await enrol(federation, experiment, key, 0, "https://new.example.org/")
    revoked = await federation.admin.revoke_client(experiment, "client-00")
    assert revoked.woken_by == "*.example.org"


@pytest.mark.parametrize("allowed", [True, False])
async def test_an_address_that_the_operator_does_not_allow_is_refused(federation, wakers, allowed):
    experiment, key = await federation.create()
    federation.app.state.coordinator = federation.coordinator(wake_ups=wakers if allowed else None)
    with pytest.raises(StateConflict) as caught:
        await enrol(federation, experiment, key, 0, "https://169.254.169.254/latest")
    assert caught.value.code == "wake-up-not-allowed"
    assert await federation.admin.clients(experiment) == []


async def test_no_address_is_left_of_a_deleted_experiment(federation, wakers):
    experiment, _, _ = await start(federation, wakers)
    assert len(await federation.documents.keys("wake_ups", experiment)) == 3
    await federation.admin.delete_experiment(experiment, stop=True)
    assert await federation.documents.keys("wake_ups", experiment) == []


async def test_a_coordinator_that_wakes_nobody_reads_and_writes_nothing_for_it(federation):
    experiment, key = await federation.create()
    await enrol(federation, experiment, key, 0, "")
    assert await federation.documents.keys("wake_ups", experiment) == []
