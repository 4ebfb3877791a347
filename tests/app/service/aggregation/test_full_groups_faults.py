"""Calls that sum a group and die, race or come late: the model is the same, nothing is left."""

import asyncio
import random
from contextlib import suppress
from dataclasses import replace

import pytest

from serverless_fl.domain.errors import OutOfTurn, StoreUnavailable
from tests.support.dying import Died, DyingStore, Fuse
from tests.support.gathering import GROUP, LIMITS, PARTIES, Gathering, noise, parts_of
from tests.support.leases import Slow
from tests.support.network import Network, Risk
from tests.support.sample import whole


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_call_may_die_at_any_write(after):
    undisturbed = await Gathering.of(parties=6)
    for slot in range(6):
        await undisturbed.upload(slot)
    expected = await undisturbed.finish()
    # A death after a write leaves the store as one before the next write does.
    for n in range(1, 200, 1 if whole() else 2):
        gathering, deaths = await Gathering.of(parties=6), 0
        fuse = Fuse(n, after)
        stores = gathering.federation
        for slot in (5, 1, 0, 4, 2, 3):
            while True:
                service = stores.coordinator(
                    DyingStore(stores.documents, fuse), DyingStore(stores.blobs, fuse)
                )
                try:
                    await gathering.upload(slot, service=service)
                    break
                except Died:
                    deaths += 1
                    stores.clock.now += 1
        stores.clock.now += stores.limits.lease_seconds
        assert await gathering.finish() == expected, f"write {n}"
        assert await stores.blobs.sizes("uploads/") == {}
        if not deaths:
            assert n > 30
            return
    raise AssertionError("the writes have no end")


@pytest.mark.parametrize("seed", range(12))
async def test_coordinators_that_race_and_die_give_the_same_bytes(seed):
    dice = random.Random(seed)
    gathering = await Gathering.of()
    network = Network(
        gathering.federation.documents,
        gathering.federation.blobs,
        LIMITS,
        gathering.federation.clock,
    )
    waiting = set(range(PARTIES))

    async def upload(service, slot):
        with suppress(OutOfTurn):  # another copy of the commit came in between: it says so again
            await gathering.upload(slot, service=service)
            waiting.discard(slot)

    for turn in range(100):
        for slot in waiting:
            network.send(lambda c, s=slot: upload(c, s), 2)
        network.send(lambda c: c.rounds.advance(gathering.id), 2)
        await network.deliver(1000, dice.randrange(10**6), Risk(0.05 if turn < 5 else 0.0))
        gathering.federation.clock.now += 5
        if not waiting:
            break
    gathering.federation.clock.now += 40  # claims and leases of the dead run out
    await gathering.finish()
    await gathering.expect(range(PARTIES))


async def test_two_calls_do_not_sum_the_same_group_at_once():
    gathering = await Gathering.of()
    slow = Slow(gathering.federation.blobs, "put", lambda key, _: "/sums/" in key)

    await gathering.upload(0)
    await gathering.upload(1)
    filling = asyncio.create_task(gathering.upload(2, service=gathering.call(2, blobs=slow)))
    await slow.asleep.wait()
    await gathering.call().rounds.advance(gathering.id)
    assert not gathering.calls[-1].reads
    gathering.federation.clock.now += LIMITS.lease_seconds  # it may be dead
    await gathering.call().rounds.advance(gathering.id)
    assert len(gathering.calls[-1].reads) == GROUP
    slow.wake.set()
    await filling
    for slot in range(3, PARTIES):
        await gathering.upload(slot)
    await gathering.finish()
    await gathering.expect(range(PARTIES))


async def test_what_one_call_does_not_come_to_others_do_before_the_close():
    gathering = await Gathering.of()
    for slot in range(GROUP):
        await gathering.upload(slot)
    after_one = len(await gathering.sums())
    assert len(gathering.calls[-1].updates) == GROUP
    for _ in range(10):
        await gathering.call().tick()
    assert len(await gathering.sums()) > after_one
    done = len(gathering.calls)
    await gathering.call().tick()
    assert not gathering.calls[done].reads  # nothing is left


async def test_a_fault_in_summing_early_refuses_no_update_and_is_tried_again(caplog):
    gathering = await Gathering.of()

    class Broken:
        def __getattr__(self, name):
            return getattr(gathering.federation.blobs, name)

        async def put(self, key, data):
            if "/sums/" in key:
                raise MemoryError("no room")
            await gathering.federation.blobs.put(key, data)

    await gathering.upload(0)
    await gathering.upload(1)
    await gathering.upload(2, service=gathering.call(2, blobs=Broken()))
    assert "no room" in caplog.text
    await gathering.call().tick()
    assert not await gathering.sums()  # not at once, or every call would try
    gathering.federation.clock.now += LIMITS.lease_seconds
    await gathering.call().tick()
    assert await gathering.sums()


async def test_sums_that_come_after_the_close_are_deleted_and_kept_updates_stay():
    gathering = await Gathering.of(keep_updates=1)
    slow = Slow(gathering.federation.blobs, "put", lambda key, _: "/sums/" in key)

    await gathering.upload(0)
    await gathering.upload(1)
    filling = asyncio.create_task(gathering.upload(2, service=gathering.call(2, blobs=slow)))
    await slow.asleep.wait()
    for slot in range(3, PARTIES):
        await gathering.upload(slot)
    await gathering.finish()
    slow.wake.set()
    with suppress(StoreUnavailable):
        await filling
    assert await gathering.sums()
    kept = [k for k in await gathering.federation.blobs.sizes("uploads/") if "/sums/" not in k]
    await gathering.call().tick()
    assert [*await gathering.federation.blobs.sizes("uploads/")] == kept
    assert kept


@pytest.mark.parametrize("begin", [0.0, 0.5])  # at the experiment's own uploads, or at others
async def test_what_is_large_is_deleted_by_ticks_a_step_at_a_time(begin):
    """Deleting gigabytes would take the call that closes the round a minute."""
    gathering = await Gathering.of(
        replace(LIMITS, drop_bytes=4000, step_seconds=0.0, step_updates=9)
    )
    other = await Gathering.of(stores=(gathering.federation.documents, gathering.federation.blobs))
    await other.upload(3)
    for slot in range(PARTIES):
        await gathering.upload(slot)
    await gathering.finish()
    blobs = gathering.federation.blobs
    mine = list(await blobs.sizes(f"uploads/{gathering.id}/"))
    assert {key.split("/")[3] for key in mine if "/sums/" not in key} == {
        f"{slot:07d}" for slot in range(PARTIES)
    }
    ticks = 0
    while left := await blobs.sizes(f"uploads/{gathering.id}/"):
        await gathering.call(jitter=lambda: begin).tick()
        ticks += 1
        assert len(await blobs.sizes(f"uploads/{gathering.id}/")) < len(left)
    assert ticks > 3
    assert len(await blobs.sizes(f"uploads/{other.id}/")) == len(parts_of(noise(3)))
