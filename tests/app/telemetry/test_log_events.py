"""What an operator reads of what happens seldom: each event with its experiment and its facts."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from serverless_fl.domain.errors import StoreUnavailable
from tests.support.federation import Federation
from tests.support.leases import CELLS, Slow, ready_to_close


@pytest.fixture
def told(lines):
    """Gives the last line of an event."""
    return lambda event: {line["event"]: line for line in lines()}[event]


async def test_what_an_admin_does_is_told_with_the_admins_name(federation, told):
    experiment, members = await federation.start(rounds=3)
    first, second = await federation.cohort(experiment)
    await federation.admin.revoke_client(experiment, next(iter(set(members) - {first, second})))
    await federation.admin.pause_experiment(experiment)
    for member in (first, second):
        await members[member].upload(1, 1.0)
    await federation.admin.resume_experiment(experiment)
    await federation.admin.delete_experiment(experiment, stop=True)
    by = {"level": "info", "experiment": experiment, "by": "admin"}
    assert told("client revoked").items() >= by.items()
    assert told("client revoked")["client"] not in (first, second)
    for event in ("pause asked for", "experiment resumed", "experiment deleted"):
        assert told(event).items() >= by.items(), event
    assert told("experiment paused").items() >= {**by, "round": 1}.items()
    assert told("round abandoned").items() >= {"experiment": experiment, "round": 2}.items()


async def test_the_end_of_what_is_deleted_is_told_with_the_same_admins_name(federation, told):
    experiment, _ = await federation.start()
    await federation.coordinator().deletion.delete(experiment, "admin (old key)", stop=True)
    for event in ("experiment ended", "experiment deleted"):
        assert told(event)["by"] == "admin (old key)"


async def test_models_that_go_are_told_and_so_is_what_cannot_be_deleted(federation, told):
    class Locked:
        """Nobody deletes uploads."""

        def __getattr__(self, name):
            return getattr(federation.blobs, name)

        async def delete(self, prefix):
            if prefix.startswith("uploads/") and "/0000002/" in prefix:
                raise StoreUnavailable("It is locked.")
            await federation.blobs.delete(prefix)

    federation.app.state.coordinator = federation.coordinator(blobs=Locked())
    experiment, members = await federation.start(rounds=2, keep_models=1, quorum=1)
    for number in (1, 2):
        for client in await federation.cohort(experiment):
            accuracy = {"accuracy_before": 1.0 - 0.1 * number}
            await members[client].upload(number, float(number), **accuracy)
    found = told("models deleted")
    assert (found["level"], found["experiment"], found["versions"]) == ("info", experiment, [1])
    found = told("not deleted")
    assert found.items() >= {"level": "warning", "experiment": experiment}.items()
    assert found["cause"] == "It is locked."


async def test_a_tick_that_deletes_models_says_of_which_experiment(federation, told):
    """No request is there to say it."""
    federation.limits = replace(federation.limits, drop_bytes=0)  # leaves all to ticks
    federation.app.state.coordinator = federation.coordinator()
    experiment, members = await federation.start(rounds=2, keep_models=1)
    for number in (1, 2):
        for client in await federation.cohort(experiment):
            accuracy = {"accuracy_before": 1.0 - 0.1 * number}
            await members[client].upload(number, float(number), **accuracy)
    await federation.app.state.coordinator.tick()
    found = told("models deleted")
    assert (found["experiment"], found["versions"]) == (experiment, [1])


async def test_a_lease_that_is_taken_over_is_told_with_its_old_owner(store, told):
    federation = Federation(store.documents, store.blobs, limits=CELLS)
    async with federation.serving():
        experiment = await ready_to_close(federation)
        slow = Slow(store.blobs, "put", lambda key, _: key.startswith("models/"))
        old = federation.coordinator(blobs=slow, worker="old")
        sleeper = asyncio.create_task(old.rounds.advance(experiment))
        await slow.asleep.wait()
        federation.clock.now += 31
        await federation.coordinator(worker="new").rounds.advance(experiment)
        slow.wake.set()
        await sleeper
    facts = {"owner": "old", "fence": 2, "deaths": 1, "level": "warning"}
    assert (
        told("lease taken over").items() >= {**facts, "experiment": experiment, "round": 1}.items()
    )


async def test_a_lease_that_is_given_back_is_told_and_so_is_a_store_that_is_away(store, told):
    class Away:
        """It does not store the new model."""

        def __getattr__(self, name):
            return getattr(store.blobs, name)

        async def put(self, key, data):
            if key.startswith("models/"):
                raise StoreUnavailable("The bucket is away.")
            await store.blobs.put(key, data)

    federation = Federation(store.documents, store.blobs, limits=CELLS)
    async with federation.serving():
        experiment = await ready_to_close(federation)
        with contextlib.suppress(StoreUnavailable):
            await federation.coordinator(blobs=Away()).rounds.advance(experiment)
    place = {"experiment": experiment, "round": 1}
    assert told("lease released unfinished").items() >= place.items()
    found = told("aggregation waits for the store")
    assert found.items() >= {**place, "level": "warning", "cause": "The bucket is away."}.items()
