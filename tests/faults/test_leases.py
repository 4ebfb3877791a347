"""Several processes at one aggregation of several cells: one model, of the same bytes."""

import asyncio

import pytest

from tests.support.federation import BOTH_STORES, Federation, value_of
from tests.support.leases import CELLS, Slow, ready_to_close

pytestmark = BOTH_STORES


@pytest.mark.parametrize("cell", [1, 2, 4])
async def test_an_owner_that_sleeps_past_its_lease_in_any_cell_changes_nothing(store, cell):
    federation = Federation(store.documents, store.blobs, limits=CELLS)
    async with federation.serving():
        experiment = await ready_to_close(federation)
        slow = Slow(store.blobs, "put", lambda key, _: key.startswith("models/"), cell)
        old = federation.coordinator(blobs=slow, worker="old")
        sleeper = asyncio.create_task(old.rounds.advance(experiment))
        await slow.asleep.wait()
        federation.clock.now += 31
        new = federation.coordinator(worker="new")
        found, closed = await new.rounds.advance(experiment)
        assert (found.state, closed.lease.owner, closed.lease.fence) == ("completed", "new", 2)
        before = await new.context.repo.models(experiment)
        blobs = await store.blobs.sizes("")
        slow.wake.set()
        assert (await sleeper)[0] == found
        assert await new.context.repo.models(experiment) == before
        assert await new.context.repo.round(experiment, 1) == closed
        assert await store.blobs.sizes("") == blobs
        assert value_of(await federation.admin.download_model(experiment)) == 1.0


async def test_many_that_close_one_round_at_once_close_it_once(store):
    federation = Federation(store.documents, store.blobs, limits=CELLS)
    async with federation.serving():
        experiment = await ready_to_close(federation)
        processes = [federation.coordinator(worker=f"w{n}") for n in range(8)]
        await asyncio.gather(*(p.rounds.advance(experiment) for p in processes))
        shown = await federation.admin.experiment(experiment)
        assert (shown.state, shown.history[0].accepted) == ("completed", 2)
        closed = await processes[0].context.repo.round(experiment, 1)
        assert closed.lease.fence == 1
        assert value_of(await federation.admin.download_model(experiment)) == 1.0
        assert await store.blobs.sizes(f"uploads/{experiment}/") == {}


async def test_a_stop_that_crosses_the_close_announces_no_model_that_is_gone(store):
    """The stopper has looked, and the round is closed before it writes what it saw."""
    federation = Federation(store.documents, store.blobs, limits=CELLS)
    async with federation.serving():
        experiment = await ready_to_close(federation)

        def closing(kind, _key, _revision, body):
            return kind == "rounds" and body["state"] == "closed"

        def abandoning(kind, _key, _revision, body):
            return kind == "rounds" and body["state"] == "abandoned"

        closer = Slow(store.documents, "replace", closing)
        owner = asyncio.create_task(federation.coordinator(closer).rounds.advance(experiment))
        await closer.asleep.wait()
        stopper = Slow(store.documents, "replace", abandoning)
        stop = asyncio.create_task(
            federation.coordinator(stopper).experiments.stop(experiment, "Enough.")
        )
        await stopper.asleep.wait()
        closer.wake.set()
        await owner
        stopper.wake.set()
        await stop
        shown = await federation.admin.experiment(experiment)
        assert shown.state == "stopped"
        expected = 1.0 if shown.model_version == 1 else 0.0
        assert value_of(await federation.admin.download_model(experiment)) == expected
        assert await store.blobs.sizes(f"uploads/{experiment}/") == {}
