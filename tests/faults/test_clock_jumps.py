"""A clock that jumps ahead for a moment leaves no lease and no deadline in the far future."""

import asyncio
from dataclasses import replace

import pytest

from tests.support.federation import Federation, value_of
from tests.support.gathering import LIMITS, Gathering
from tests.support.leases import CELLS, Slow, ready_to_close

YEAR = 365 * 86400.0


@pytest.mark.parametrize("jump", [31.0, 3600.0, YEAR])
async def test_a_lease_taken_while_the_clock_was_ahead_runs_out_in_its_own_time(store, jump):
    federation = Federation(store.documents, store.blobs, limits=CELLS)
    async with federation.serving():
        experiment = await ready_to_close(federation)
        slow = Slow(store.blobs, "put", lambda key, _: key.startswith("models/"))
        dead = federation.coordinator(blobs=slow, clock=lambda: federation.clock() + jump)
        sleeper = asyncio.create_task(dead.rounds.advance(experiment))
        await slow.asleep.wait()
        found, _ = await federation.coordinator().rounds.advance(experiment)
        assert not found.ended
        federation.clock.now += CELLS.lease_seconds
        found, _ = await federation.coordinator().rounds.advance(experiment)
        assert found.state == "completed"
        models = await federation.admin.models(experiment)
        slow.wake.set()  # and it changes nothing
        await sleeper
        assert await federation.admin.models(experiment) == models


async def test_its_living_owner_keeps_the_lease_that_others_shortened(store):
    """Its clock is right again before the first cell is done."""
    federation = Federation(store.documents, store.blobs, limits=CELLS)
    async with federation.serving():
        experiment = await ready_to_close(federation)
        ahead = [YEAR]

        class Looked:
            """Between any two parts, others look, and time goes by."""

            def __getattr__(self, name):
                return getattr(store.blobs, name)

            async def put(self, key, data):
                ahead[0] = 0.0
                await federation.coordinator(worker="b").rounds.advance(experiment)
                federation.clock.now += CELLS.lease_seconds * 0.2
                await federation.coordinator(worker="b").rounds.advance(experiment)
                await store.blobs.put(key, data)

        owner = federation.coordinator(
            blobs=Looked(),
            worker="a",
            clock=lambda: federation.clock() + ahead[0],
            limits=replace(CELLS, step_seconds=1000.0),
        )
        await owner.rounds.advance(experiment)
        closed = await owner.context.repo.round(experiment, 1)
        assert (closed.state, closed.lease.owner, closed.lease.fence) == ("closed", "a", 1)
        assert value_of(await federation.admin.download_model(experiment)) == 1.0


@pytest.mark.parametrize("jump", [61.0, 3600.0, YEAR])
async def test_a_deadline_set_while_the_clock_was_ahead_is_no_further_than_its_length(store, jump):
    federation = Federation(store.documents, store.blobs)
    async with federation.serving():
        experiment, key = await federation.create(quorum=1)
        members = [await federation.enrol(experiment, key, n) for n in range(3)]
        ahead = federation.coordinator(clock=lambda: federation.clock() + jump)
        federation.app.state.coordinator = ahead  # it opens the round
        members.append(await federation.enrol(experiment, key, 3))
        federation.app.state.coordinator = federation.coordinator()
        waiting = {m.id: await m.status() for m in members}
        inside = [m for m in members if waiting[m.id].action == "train"]
        assert all(waiting[m.id].seconds_left <= 60 for m in inside)
        await inside[0].upload(1, 3.0)
        federation.clock.now += 60
        await inside[1].status()
        assert (await federation.admin.round(experiment, 1)).state == "closed"


async def test_a_claim_made_while_the_clock_was_ahead_runs_out_in_its_own_time():
    gathering = await Gathering.of()
    asleep = Slow(gathering.federation.blobs, "put", lambda key, _: "/sums/" in key)
    await gathering.upload(0)
    await gathering.upload(1)
    dead = gathering.call(2, blobs=asleep, clock=lambda: gathering.federation.clock() + 45)
    filling = asyncio.create_task(gathering.upload(2, service=dead))
    await asleep.asleep.wait()
    await gathering.call().rounds.advance(gathering.id)
    assert not await gathering.sums()
    gathering.federation.clock.now += LIMITS.lease_seconds
    await gathering.call().rounds.advance(gathering.id)
    assert await gathering.sums()
    asleep.wake.set()
    await filling
