"""Coordinators whose clocks disagree (docs/decisions/0013): nothing breaks, little is wasted."""

import numpy as np
import pytest

from app.service.coordinator import Limits
from tests.support.federation import Federation, value_of, weights
from tests.support.leases import Meanwhile


def zeros(count):
    return np.zeros(count, np.float32)


def pair(federation, skew):
    """Two coordinators over one database, the second one's clock so many seconds ahead."""
    return (
        federation.coordinator(worker="a"),
        federation.coordinator(worker="b", clock=lambda: federation.clock() + skew),
    )


@pytest.mark.parametrize("skew", [-10.0, -5.0, 5.0, 10.0])
async def test_a_lease_that_is_renewed_is_not_taken_by_a_clock_ten_seconds_off(store, skew):
    federation = Federation(store.documents, store.blobs, limits=Limits(part_bytes=256))
    _, other = pair(federation, skew)

    async def the_other_looks_in(key, data):
        """Each part of the model takes four seconds, and the other one looks in every time."""
        if key.startswith("models/") and "/0000001/" in key:
            federation.clock.now += 4
            await other.rounds.advance(key.split("/")[1])

    async with federation.serving():
        initial = weights(0, more=zeros(800))
        experiment, key = await federation.create(initial, clients=2, rounds=1)
        members = [await federation.enrol(experiment, key, n) for n in range(2)]
        limits = Limits(part_bytes=256, step_seconds=1000)
        slow = federation.coordinator(
            worker="a", blobs=Meanwhile(store.blobs, "put", the_other_looks_in), limits=limits
        )
        federation.app.state.coordinator = slow
        for member in members:
            await member.upload_bytes(1, initial)
        closed = await slow.context.repo.round(experiment, 1)
        assert (closed.state, closed.lease.owner, closed.lease.fence) == ("closed", "a", 1)
        assert federation.clock.now - closed.opened_at > 40  # longer than a lease


@pytest.mark.parametrize("skew", [-10.0, 10.0, -100.0, 100.0])
async def test_a_released_aggregation_is_gone_on_with_at_once_whatever_the_clocks_say(store, skew):
    limits = Limits(part_bytes=256, step_seconds=0)
    federation = Federation(store.documents, store.blobs, limits=limits)
    one, other = pair(federation, skew)
    async with federation.serving():
        initial = weights(0, more=zeros(200))
        experiment, key = await federation.create(initial, clients=2, rounds=1)
        for member in [await federation.enrol(experiment, key, n) for n in range(2)]:
            await member.upload_bytes(1, initial)
        await other.rounds.advance(experiment)  # does a span, lets go, and is never seen again
        for _ in range(20):
            found, round_ = await one.rounds.advance(experiment)
            if found.ended:
                break
        assert found.ended, "it waits for a clock"
        assert round_.lease.deaths == 0


@pytest.mark.parametrize("skew", [-10.0, 10.0])
async def test_deadlines_move_by_the_skew_and_no_more(store, skew):
    federation = Federation(store.documents, store.blobs)
    one, other = pair(federation, skew)
    async with federation.serving(one):
        experiment, members = await federation.start(rounds=2, quorum=1)
        cohort = await federation.cohort(experiment)
        await members[cohort[0]].upload(1, 3.0)
        for early, state in ((60 - skew - 1, "collecting"), (60 - skew, "closed")):
            federation.clock.now = 1_000_000 + early
            await other.rounds.advance(experiment)
            assert (await other.context.repo.round(experiment, 1)).state == state
        assert value_of(await federation.admin.download_model(experiment, 1)) == 3.0
        assert (await federation.admin.round(experiment, 1)).reported == cohort[:1]
