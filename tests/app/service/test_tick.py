"""The tick: bounded in its time, fair to all experiments, and stopped by none of them."""

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits
from app.service.tick import ticking
from serverless_fl.domain.errors import StoreDenied, TickFailed
from tests.support.federation import Federation, config, value_of, weights

STEP = 10.0


class Costly:
    """A store of weights of which each read takes a while, and some keys are denied."""

    def __init__(self, inner, clock, seconds=0.0, denied=(), deletion_denied=()):
        self._inner, self._clock, self._seconds = inner, clock, seconds
        self.denied, self.deletion_denied = list(denied), list(deletion_denied)

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def get(self, key):
        if any(part in key for part in self.denied):
            raise StoreDenied("The bucket says AccessDenied.")
        self._clock.now += self._seconds
        return await self._inner.get(key)

    async def delete(self, prefix):
        for part in self.deletion_denied:
            if part in prefix and await self._inner.sizes(prefix):
                raise StoreDenied("The object is locked.")
        await self._inner.delete(prefix)


def big(value):
    """Ten spans of 1 KiB."""
    return weights(value, big=np.full(2500, value, np.float32))


@pytest.fixture
async def several(store):
    """Five experiments whose rounds are overdue, each with an aggregation of some twenty reads."""
    limits = Limits(part_bytes=1024, lease_seconds=1000.0, step_seconds=STEP)
    federation = Federation(store.documents, store.blobs, limits=limits)
    async with federation.serving():
        federation.experiments = []
        for number in range(5):
            made, key = await federation.create(
                big(0), clients=2, rounds=1, quorum=1, seed=number, deadline_seconds=10_000
            )
            members = [await federation.enrol(made, key, n) for n in range(2)]
            await members[0].upload_bytes(1, big(1.0))
            federation.experiments.append(made)
        federation.clock.now += 10_001
        yield federation


async def states(federation):
    repo = federation.coordinator().context.repo
    return {e: (await repo.experiment(e)).state for e in federation.experiments}


async def test_one_budget_is_for_all_and_each_gets_its_turn(several):
    costly = Costly(several.blobs, several.clock, seconds=0.9)
    ticks = 0
    while "running" in (await states(several)).values():
        before, reads = await states(several), several.clock.now
        service = several.coordinator(blobs=costly)  # each tick is another process
        await service.tick()
        ticks += 1
        # Beyond the budget there are the cell in which it ends, and the check of the parts that
        # others have stored.
        assert several.clock.now - reads <= 2 * STEP
        assert ticks < 40, before
    assert ticks > 3  # one budget was not enough
    for experiment in several.experiments:
        assert value_of_w(await several.admin.download_model(experiment)) == 1.0


async def test_the_check_of_what_others_stored_is_begun_in_time(several):
    """It is done in one call or not at all, so it is not begun at the end of a budget."""
    costly, cell = Costly(several.blobs, several.clock, seconds=0.7), 0.7
    while "running" in (await states(several)).values():
        begun = several.clock.now
        await several.coordinator(blobs=costly).tick()
        assert several.clock.now - begun <= STEP + cell


def value_of_w(data):
    return float(safetensors.numpy.load(data)["w"].flat[0])


async def test_no_experiment_waits_until_all_before_it_are_done(several):
    """Each has got a share of the first five ticks, whatever its place."""
    costly = Costly(several.blobs, several.clock, seconds=1.9)
    for _ in range(5):
        await several.coordinator(blobs=costly).tick()
    repo = several.coordinator().context.repo
    rounds = [await repo.round(e, 1) for e in several.experiments]
    assert all(r.lease is not None for r in rounds)
    begun = [await several.blobs.sizes(f"models/{e}/0000001/") for e in several.experiments]
    assert all(begun)


async def test_deadlines_strike_in_every_experiment_though_the_budget_is_used_up(several):
    costly = Costly(several.blobs, several.clock, seconds=STEP)
    await several.coordinator(blobs=costly).tick()
    repo = several.coordinator().context.repo
    found = [(await repo.round(e, 1)).state for e in several.experiments]
    assert found[0] == "aggregating"
    assert several.clock.now < 1_000_000 + 10_001 + 3 * STEP
    quick = several.coordinator()
    for _ in range(5):
        await quick.tick()
    assert set((await states(several)).values()) == {"completed"}


async def test_the_cleanup_has_its_turn_in_every_tick(several):
    """However long the aggregations take."""
    done, key = await several.create(weights(0), clients=2, rounds=1, seed=99)
    members = [await several.enrol(done, key, n) for n in range(2)]
    for member in members:
        await member.upload(1, 1.0)
    late = f"uploads/{done}/0000001/0000000/00000-late"
    await several.blobs.put(late, b"by a signed URL")
    costly = Costly(several.blobs, several.clock, seconds=STEP)
    await several.coordinator(blobs=costly).tick()
    assert "running" in (await states(several)).values()
    assert late not in await several.blobs.sizes("uploads/")


async def test_an_experiment_that_cannot_be_read_stops_no_other(several, caplog):
    poisoned = several.experiments[0]
    costly = Costly(several.blobs, several.clock, denied=[f"uploads/{poisoned}"])
    service = several.coordinator(blobs=costly)
    for _ in range(30):
        with pytest.raises(TickFailed, match=poisoned):
            await service.tick()
        several.clock.now += 2000
    found = await states(several)
    assert found.pop(poisoned) == "running"
    assert set(found.values()) == {"completed"}
    assert "AccessDenied" in caplog.text
    assert (await service.context.repo.round(poisoned, 1)).lease.deaths == 0
    costly.denied.clear()
    await service.tick()
    assert (await states(several))[poisoned] == "completed"


@pytest.mark.parametrize("fault", [RuntimeError("a bug"), KeyError("a field")])
async def test_what_nobody_foresaw_in_one_stops_no_other_and_is_raised(several, monkeypatch, fault):
    service, broken = several.coordinator(), several.experiments[2]
    advance = service.rounds.advance

    async def advancing(experiment_id, *args, **kwargs):
        if experiment_id == broken:
            raise fault
        return await advance(experiment_id, *args, **kwargs)

    monkeypatch.setattr(service.rounds, "advance", advancing)
    with pytest.raises(TickFailed, match=broken):
        await service.tick()
    found = await states(several)
    assert found.pop(broken) == "running"
    assert set(found.values()) == {"completed"}


async def test_deletion_after_a_close_is_best_effort(federation):
    """A locked object keeps no client, no page and no other experiment waiting."""
    experiment, members = await federation.start(rounds=2)
    costly = Costly(federation.blobs, federation.clock, deletion_denied=[experiment])
    federation.app.state.coordinator = service = federation.coordinator(blobs=costly)
    for number in (1, 2):
        for client in await federation.cohort(experiment):
            await members[client].upload(number, float(number))
    shown = await federation.admin.experiment(experiment)
    assert (shown.state, shown.model_version) == ("completed", 2)
    assert (await next(iter(members.values())).status()).action == "done"
    other, theirs = await federation.start(rounds=1, quorum=1, seed=5)
    await theirs[(await federation.cohort(other))[0]].upload(1, 3.0)
    federation.clock.now += 61
    with pytest.raises(TickFailed, match="locked"):
        await service.tick()
    assert value_of(await federation.admin.download_model(other)) == 3.0
    costly.deletion_denied.clear()
    await service.tick()
    assert await federation.blobs.sizes(f"uploads/{experiment}/") == {}


async def test_uploads_that_cannot_be_deleted_keep_no_others(federation):
    limits = replace(federation.limits, drop_bytes=0)  # leave them to the tick
    federation.app.state.coordinator = federation.coordinator(limits=limits)
    made = []
    for seed in range(3):
        experiment, members = await federation.start(rounds=1, seed=seed)
        for client in await federation.cohort(experiment):
            await members[client].upload(1, 1.0)
        made.append(experiment)
    costly = Costly(federation.blobs, federation.clock, deletion_denied=[made[1]])
    for _ in range(2):
        with suppress(TickFailed):
            await federation.coordinator(blobs=costly).tick()
    left = {key.split("/")[1] for key in await federation.blobs.sizes("uploads/")}
    assert left == {made[1]}


async def test_a_stopped_experiment_whose_files_cannot_be_deleted_answers_all_the_same(federation):
    experiment, members = await federation.start()
    cohort = await federation.cohort(experiment)
    await members[cohort[0]].upload(1, 1.0)
    costly = Costly(federation.blobs, federation.clock, deletion_denied=[experiment])
    federation.app.state.coordinator = federation.coordinator(blobs=costly)
    assert (await federation.admin.stop_experiment(experiment)).state == "stopped"
    assert (await members[cohort[0]].status()).action == "done"
    costly.deletion_denied.clear()
    await federation.admin.experiment(experiment)
    assert await federation.blobs.sizes(f"uploads/{experiment}/") == {}


async def test_other_parts_that_cannot_be_deleted_keep_no_enrolment_from_opening(federation):
    costly = Costly(federation.blobs, federation.clock, deletion_denied=["models/"])
    federation.app.state.coordinator = federation.coordinator(blobs=costly)
    made = await federation.admin.create_experiment("x", config(), "one-more-key")
    first, other = weights(0), weights(1)
    sha = hashlib.sha256(other).hexdigest()
    service = federation.app.state.coordinator
    await service.experiments.store_initial_part(made.id, 0, sha, other)
    await federation.admin.upload_initial_model(made.id, first, made.part_bytes)
    assert (await federation.admin.experiment(made.id)).state == "enrolling"


async def test_an_experiment_is_deleted_for_everybody_though_its_files_cannot_be_yet(federation):
    experiment, _ = await federation.start()
    costly = Costly(federation.blobs, federation.clock, deletion_denied=[experiment])
    service = federation.coordinator(blobs=costly)
    await service.deletion.delete(experiment, "admin", stop=True)
    assert (await federation.http.get(f"/v1/experiments/{experiment}")).status_code == 404
    with pytest.raises(TickFailed, match="locked"):
        await service.tick()
    costly.deletion_denied.clear()
    await service.tick()
    assert not [key for key in await federation.blobs.sizes("") if experiment in key]


async def test_a_tick_that_fails_is_followed_by_others(federation, monkeypatch):
    """Whatever it raises, for as long as the server runs."""
    service, count = federation.app.state.coordinator, 0
    enough = asyncio.Event()

    async def tick():
        nonlocal count
        count += 1
        if count == 4:
            enough.set()
        raise [TickFailed("one"), RuntimeError("another"), StoreDenied("away")][count % 3]

    monkeypatch.setattr(service.ticks, "tick", tick)
    async with asyncio.timeout(10), ticking(service.ticks, 0.001):
        await enough.wait()
