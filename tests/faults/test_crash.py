"""Whatever dies, in whatever order they come: every round closes once, over what was accepted."""

import asyncio
import hashlib

import pytest

from app.service.coordinator import Done, Limits, Subscriber, Wait
from client_sdk.errors import StateConflict
from serverless_fl.domain.errors import StoreUnavailable
from serverless_fl.domain.records import UpdateCommit
from tests.support.crashes import deaths_that_change_nothing, whole_experiment
from tests.support.dying import Failing
from tests.support.federation import BOTH_STORES, Federation, value_of, weights
from tests.support.leases import Meanwhile, Slow, StoppedAtClose
from tests.support.sample import deaths, sample


def storing_the_model(key):
    return key.startswith("models/") and "/0000001/" in key


@deaths("before", "after")
async def test_dying_at_any_write_changes_nothing_in_the_end(store, fresh_store, after):
    deaths = await deaths_that_change_nothing(store, fresh_store, Limits(), after=after, every=5)
    assert deaths > 25  # the loop ended because all writes were tried, not at once


@deaths()
async def test_dying_at_any_write_with_data_of_the_parties_own(store, fresh_store, after):
    deaths = await deaths_that_change_nothing(
        store, fresh_store, Limits(), after=after, every=15, sqlite=3, rounds=1, own=True
    )
    assert deaths > 15


@deaths()
async def test_dying_at_any_write_of_an_experiment_that_gets_more_rounds(store, fresh_store, after):
    """Its end is that of an experiment that had as many rounds from the beginning."""
    straight = Federation(store.documents, store.blobs)
    expected = await whole_experiment(straight, [straight.coordinator()], rounds=3)
    extended = Federation(store.documents, store.blobs)
    found = await whole_experiment(extended, [extended.coordinator()], rounds=1, more=2)
    assert found == expected
    deaths = await deaths_that_change_nothing(
        store, fresh_store, Limits(), after=after, every=21, sqlite=3, rounds=1, more=1
    )
    assert deaths > 25


OVER_SELECTED = {"name": "synchronous", "over_selection": 1}
GRACE = {"name": "synchronous", "grace_seconds": 5 * 10**4}
RULES = {
    "over-selection": {"schedule": OVER_SELECTED, "selection": "responsive"},
    "grace": {"schedule": GRACE, "selection": "responsive", "silent": (1,)},
    "by loss": {"selection": "by-loss"},
    "by size": {"selection": "by-size", "schedule": OVER_SELECTED},
    "least recent": {"selection": "least-recent", "silent": (2,)},
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@deaths()
async def test_dying_at_any_write_changes_nothing_under_other_rules(
    store, fresh_store, after, rules
):
    deaths = await deaths_that_change_nothing(
        store, fresh_store, Limits(), after=after, every=29, sqlite=5, rounds=3, **rules
    )
    assert deaths > 25


@deaths()
async def test_dying_at_any_write_of_buffered_rounds_with_slow_clients(store, fresh_store, after):
    run = {"schedule": "buffered", "rounds": 5, "slow": (1, 3)}
    quiet = Federation((alone := await fresh_store()).documents, alone.blobs)
    updates = (await whole_experiment(quiet, [quiet.coordinator()], **run))[2]
    assert {u[2] is None for u in updates} == {True, False}  # some were trained from older models
    deaths = await deaths_that_change_nothing(
        store, fresh_store, Limits(), after=after, every=29, sqlite=5, **run
    )
    assert deaths > 60


@pytest.mark.parametrize("step", [10.0, 0.0], ids=["in one call", "a cell a call"])
@deaths("after")
async def test_dying_at_any_write_of_an_aggregation_in_cells(store, fresh_store, after, step):
    """The model is cut into three spans, the cohort into two groups."""
    limits = Limits(part_bytes=256, group_size=1, step_seconds=step)
    run = {"rounds": 1, "size": 80}
    deaths = await deaths_that_change_nothing(
        store, fresh_store, limits, after=after, lit=False, every=11, **run
    )
    assert deaths > (20 if step else 28)


@BOTH_STORES
async def test_a_lease_that_runs_out_is_taken_over_and_the_stale_owner_changes_nothing(store):
    federation = Federation(store.documents, store.blobs)
    async with federation.serving():
        experiment, members = await federation.start(rounds=1)
        slow = Slow(store.blobs, "put", lambda key, _: storing_the_model(key))
        cohort = await federation.cohort(experiment)
        await members[cohort[0]].upload(1, 2.0)
        federation.app.state.coordinator = federation.coordinator(blobs=slow, worker="old")
        last = asyncio.create_task(members[cohort[1]].upload(1, 4.0))
        await slow.asleep.wait()
        federation.app.state.coordinator = federation.coordinator(worker="new")
        waiting = await members[cohort[0]].status()
        assert (waiting.action, waiting.message) == ("wait", "Round 1 is being aggregated.")
        federation.clock.now += 31
        assert (await members[cohort[0]].status()).action == "done"
        closed = await federation.coordinator().context.repo.round(experiment, 1)
        assert (closed.lease.owner, closed.lease.fence) == ("new", 2)
        slow.wake.set()
        await last
        assert await federation.coordinator().context.repo.round(experiment, 1) == closed
        assert value_of(await federation.admin.download_model(experiment)) == 3.0


@BOTH_STORES
async def test_a_stale_owner_that_finds_the_uploads_deleted_fails_nothing(store):
    """The new owner closed the round and deleted its uploads, and died before it concluded."""
    federation = Federation(store.documents, store.blobs)
    slow = Slow(store.blobs, "get", lambda key: True)
    dying = Failing(
        store.documents, lambda name, *args: (name, *args)[:2] == ("replace", "experiments")
    )

    async with federation.serving():
        experiment, members = await federation.start(rounds=1, quorum=1)
        cohort = await federation.cohort(experiment)
        await members[cohort[0]].upload(1, 2.0)
        federation.clock.now += 61
        old = federation.coordinator(blobs=slow)
        late = asyncio.create_task(old.rounds.advance(experiment))
        await slow.asleep.wait()
        federation.clock.now += 31
        with pytest.raises(StoreUnavailable):
            await federation.coordinator(dying).rounds.advance(experiment)
        slow.wake.set()
        await late
        shown = await federation.admin.experiment(experiment)
        assert (shown.state, shown.model_version) == ("completed", 1), shown.reason


@BOTH_STORES
async def test_an_aggregation_longer_than_a_lease_ends_though_others_poll(store):
    federation = Federation(store.documents, store.blobs)
    owners = 0

    async def others_poll(key, data):
        """Storing the model takes longer than a lease, and somebody asks meanwhile."""
        nonlocal owners
        if storing_the_model(key):
            owners += 1
            assert owners < 9, "nobody ever comes to the commit"
            federation.clock.now += federation.limits.lease_seconds * 1.5
            await slow().rounds.advance(key.split("/")[1])

    def slow():
        return federation.coordinator(blobs=Meanwhile(store.blobs, "put", others_poll))

    async with federation.serving():
        experiment, members = await federation.start(rounds=1, quorum=1)
        cohort = await federation.cohort(experiment)
        await members[cohort[0]].upload(1, 2.0)
        federation.clock.now += 61
        await slow().rounds.advance(experiment)
        assert (await federation.admin.experiment(experiment)).state == "completed"


@BOTH_STORES
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_an_update_counts_exactly_if_it_was_stored_before_the_seal(store, moment):
    """The deadline strikes in another process just before, or just after, the update is stored."""
    federation = Federation(store.documents, store.blobs)

    class Struck:
        def __init__(self):
            self.armed = False

        def __getattr__(self, name):
            return getattr(store.documents, name)

        async def insert(self, kind, key, body, **options):
            strike = self.armed and kind == "updates"
            if strike and moment == "before":
                await self._strike(key)
            result = await store.documents.insert(kind, key, body, **options)
            if strike and moment == "after":
                await self._strike(key)
            return result

        async def _strike(self, key):
            self.armed = False
            federation.clock.now += 61
            await federation.coordinator().rounds.advance(key.split("/")[0])

    struck = Struck()
    async with federation.serving(federation.coordinator(struck)):
        experiment, members = await federation.start(quorum=1)
        cohort = await federation.cohort(experiment)
        await members[cohort[0]].upload(1, 2.0)
        struck.armed = True
        if moment == "after":
            await members[cohort[1]].upload(1, 4.0)
            expected = (cohort, 3.0)
        else:
            with pytest.raises(StateConflict, match="closed before the update arrived"):
                await members[cohort[1]].upload(1, 4.0)
            with pytest.raises(StateConflict):  # and it stays so
                await members[cohort[1]].upload(1, 4.0)
            expected = (cohort[:1], 2.0)
        round_ = await federation.admin.round(experiment, 1)
        model = value_of(await federation.admin.download_model(experiment, 1))
        assert (round_.reported, model) == expected


@BOTH_STORES
async def test_an_update_that_slips_in_behind_the_frozen_list_is_refused_and_not_averaged(store):
    """Its turn was checked before the seal, its insert comes after the list is frozen."""
    federation = Federation(store.documents, store.blobs)
    checked, frozen, inserted = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Late:
        def __getattr__(self, name):
            return getattr(store.documents, name)

        async def insert(self, kind, key, body, **options):
            if kind == "updates":
                checked.set()
                await frozen.wait()
            result = await store.documents.insert(kind, key, body, **options)
            if kind == "updates":
                inserted.set()
            return result

    class Closing(Late):
        async def insert(self, kind, key, body, **options):
            return await store.documents.insert(kind, key, body, **options)

        async def replace(self, kind, key, revision, body):
            result = await store.documents.replace(kind, key, revision, body)
            if body.get("state") == "aggregating":
                frozen.set()
                await inserted.wait()
            return result

    async with federation.serving():
        experiment, members = await federation.start(quorum=1)
        cohort = await federation.cohort(experiment)
        await members[cohort[0]].upload(1, 2.0)
        federation.app.state.coordinator = federation.coordinator(Late())
        late = asyncio.create_task(members[cohort[1]].upload(1, 4.0))
        await checked.wait()
        federation.clock.now += 61
        await federation.coordinator(Closing()).rounds.advance(experiment)
        with pytest.raises(StateConflict, match="closed before the update arrived"):
            await late
        assert (await federation.admin.round(experiment, 1)).reported == cohort[:1]
        assert value_of(await federation.admin.download_model(experiment, 1)) == 2.0


@BOTH_STORES
async def test_a_stop_just_after_a_round_is_closed_does_not_lose_its_model(store):
    federation = Federation(store.documents, store.blobs)

    async with federation.serving(federation.coordinator(StoppedAtClose(federation, 1))):
        experiment, members = await federation.start(rounds=5)
        for client in await federation.cohort(experiment):
            await members[client].upload(1, 7.0)
        shown = await federation.admin.experiment(experiment)
        assert (shown.state, shown.model_version) == ("stopped", 1)
        assert value_of(await federation.admin.download_model(experiment)) == 7.0
        assert await store.blobs.sizes(f"uploads/{experiment}/") == {}


# tests/e2e/test_run.py has as many over both stores, and coordinators that are processes.
@pytest.mark.parametrize("fresh_store", sample(["sqlite", "mongo"], ["sqlite"]), indirect=True)
async def test_forty_clients_at_once_through_four_coordinators(store):
    federation = Federation(store.documents, store.blobs)
    async with federation.serving():
        experiment, key = await federation.create(
            clients=40, clients_per_round=20, rounds=3, dataset_size=400
        )
        processes = [federation.coordinator(worker=f"w{n}") for n in range(4)]

        async def client(n):
            mine = processes[n % 4]
            subscribe = Subscriber(client_key=f"{n:02d}" * 20)
            got = await mine.enrolment.subscribe(experiment, key, subscribe)
            who = await mine.enrolment.client_of(experiment, got.token)
            uploads = 0
            while True:
                status = await mine.turns.status(who)
                if isinstance(status, Done):
                    return uploads
                if isinstance(status, Wait):
                    await asyncio.sleep(0.05)
                    continue
                data = weights(float(status.round.number))
                digest = hashlib.sha256(data).hexdigest()
                await mine.updates.store_part(who, status.round.number, 0, digest, data)
                commit = UpdateCommit(sha256=digest, parts=[digest], num_examples=10)
                await mine.updates.commit(who, status.round.number, commit)
                uploads += 1

        uploads = await asyncio.gather(*(client(n) for n in range(40)))
        shown = await federation.admin.experiment(experiment)
        assert shown.state == "completed"
        assert [r.accepted for r in shown.history] == [20, 20, 20]
        assert sum(uploads) == 60  # none twice, none lost
        assert [m.version for m in await federation.admin.models(experiment)] == [0, 1, 2, 3]
