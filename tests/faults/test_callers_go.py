"""Work under a lease goes on though its caller goes away, and is given back where it cannot."""

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from app.api.routes import events
from app.config import Settings
from app.main import create_app
from app.service import shielded
from app.service.aggregation import leases
from app.service.clients import long_poll
from app.service.coordinator import Limits
from serverless_fl.domain.errors import StoreUnavailable
from tests.support.dying import Failing
from tests.support.federation import ADMIN_KEY, Federation, value_of
from tests.support.leases import CELLS, Slow, model, ready_to_close


def storing_the_model(key, _data):
    return key.startswith("models/") and "/0000001/" in key


async def cancelled(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition):
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.001)


@pytest.fixture
async def overdue(store):
    """A round at its deadline, and a process that falls asleep while it stores the new model."""
    federation = Federation(store.documents, store.blobs, limits=CELLS)
    async with federation.serving():
        federation.experiment = await ready_to_close(federation)
        federation.slow = Slow(store.blobs, "put", storing_the_model)
        federation.app.state.coordinator = federation.coordinator(blobs=federation.slow)
        yield federation


def service(federation):
    return federation.app.state.coordinator


async def stored(federation):
    return await federation.coordinator().context.repo.round(federation.experiment, 1)


async def closes_by_itself(federation):
    """Nobody asks any more, and no time passes."""

    async def closed():
        return (await stored(federation)).state == "closed"

    federation.slow.wake.set()
    await until(closed)
    assert (await stored(federation)).lease.fence == 1
    shown = await federation.admin.experiment(federation.experiment)
    assert (shown.state, shown.model_version) == ("completed", 1)
    assert value_of(await federation.admin.download_model(federation.experiment)) == 1.0


async def test_a_caller_that_is_cancelled_leaves_the_work_to_its_end(overdue):
    caller = asyncio.create_task(service(overdue).rounds.advance(overdue.experiment))
    await overdue.slow.asleep.wait()
    await cancelled(caller)
    await closes_by_itself(overdue)


@pytest.mark.parametrize("write", [1, 2, 3])
async def test_one_that_is_cancelled_as_it_takes_the_lease_leaves_it_with_nobody_idle(store, write):
    """The first writes are the seal, the lease, and the lease's renewal or the close."""
    federation = Federation(store.documents, store.blobs, limits=CELLS)
    async with federation.serving():
        experiment = await ready_to_close(federation)
        slow = Slow(store.documents, "replace", lambda kind, *_: kind == "rounds", write)
        caller = asyncio.create_task(federation.coordinator(slow).rounds.advance(experiment))
        await slow.asleep.wait()
        await cancelled(caller)
        slow.wake.set()

        async def over():
            await federation.coordinator().rounds.advance(experiment)
            return (await federation.coordinator().context.repo.experiment(experiment)).ended

        await until(over)
        assert value_of(await federation.admin.download_model(experiment)) == 1.0


async def test_a_tick_that_is_cancelled_leaves_the_work_to_its_end(overdue):
    ticking = asyncio.create_task(service(overdue).tick())
    await overdue.slow.asleep.wait()
    await cancelled(ticking)
    await closes_by_itself(overdue)


async def test_the_end_of_a_held_poll_does_not_end_what_its_look_began(overdue, monkeypatch):
    monkeypatch.setattr(long_poll, "CHECK_SECONDS", 0.001)
    overdue.clock.now -= 30
    limits = replace(CELLS, hold_seconds=20.0)
    overdue.app.state.coordinator = overdue.coordinator(blobs=overdue.slow, limits=limits)
    seen = long_poll.state_of(*await service(overdue).rounds.advance(overdue.experiment))
    held = service(overdue).long_polls.wait(overdue.experiment, seen, 20)
    poll = asyncio.create_task(held)
    await asyncio.sleep(0.01)
    overdue.clock.now += 30
    await overdue.slow.asleep.wait()
    await cancelled(poll)  # it was the last one that waited
    assert not service(overdue).long_polls._watchers
    await closes_by_itself(overdue)


async def test_the_sum_of_a_full_group_outlives_its_caller(store):
    limits = Limits(part_bytes=256, group_size=1, lease_seconds=30)
    federation = Federation(store.documents, store.blobs, limits=limits)
    async with federation.serving():
        experiment, key = await federation.create(model(0), clients=3, clients_per_round=3)
        members = [await federation.enrol(experiment, key, n) for n in range(3)]
        slow = Slow(store.blobs, "put", lambda key, _: "/sums/" in key)
        federation.app.state.coordinator = federation.coordinator(blobs=slow)
        upload = asyncio.create_task(members[0].upload_bytes(1, model(1)))
        await slow.asleep.wait()
        await cancelled(upload)
        slow.wake.set()
        repo = federation.coordinator().context.repo

        async def summed():
            groups = await repo.sums.groups(await repo.round(experiment, 1))
            return groups and all(group.done for group in groups.values())

        await until(summed)


# Streams


async def test_streams_only_look(overdue):
    """Any number of readers without a key, at any moment, begin nothing."""
    before = await stored(overdue)
    answer = events._stream(
        overdue.app.state.live,
        service(overdue),
        await service(overdue).views.as_stored(overdue.experiment),
        await service(overdue).watch.mark(overdue.experiment),
        0,
    )
    for _ in range(2):
        await anext(answer)
    await answer.aclose()
    assert await service(overdue).watch.mark(overdue.experiment)
    assert await stored(overdue) == before
    assert not overdue.slow.asleep.is_set()


async def test_twenty_readers_that_hang_up_fail_no_experiment(overdue):
    """They hang up in the middle of what they began, if they could begin anything."""
    for _ in range(25):
        url = f"/v1/experiments/{overdue.experiment}/events"
        reader = asyncio.create_task(overdue.http.get(url))
        await asyncio.sleep(0.001)
        await cancelled(reader)
        overdue.clock.now += 1000
    overdue.slow.wake.set()
    await service(overdue).rounds.advance(overdue.experiment)
    shown = await overdue.admin.experiment(overdue.experiment)
    assert (shown.state, shown.model_version) == ("completed", 1)


async def test_callers_that_are_cancelled_any_number_of_times_are_no_deaths(overdue):
    """The work is in its own task, so one owner finishes it, whatever hangs up."""
    callers = []
    for _ in range(25):
        callers.append(asyncio.create_task(service(overdue).rounds.advance(overdue.experiment)))
        await asyncio.sleep(0.001)
        await cancelled(callers[-1])
    assert (await stored(overdue)).lease.deaths == 0
    await closes_by_itself(overdue)


# The server stops


async def test_a_process_that_stops_ends_at_a_cell_and_gives_the_lease_back(overdue):
    caller = asyncio.create_task(service(overdue).rounds.advance(overdue.experiment))
    await overdue.slow.asleep.wait()
    service(overdue).stopping()
    overdue.slow.wake.set()
    await service(overdue).close()
    await caller
    round_ = await stored(overdue)
    assert (round_.state, round_.lease.released, round_.lease.deaths) == ("aggregating", True, 0)
    # Whoever asks it all the same begins nothing; another process goes on at once.
    await service(overdue).rounds.advance(overdue.experiment)
    assert await stored(overdue) == round_
    await overdue.coordinator().rounds.advance(overdue.experiment)
    assert (await stored(overdue)).state == "closed"


async def test_what_does_not_come_to_an_end_is_cancelled_and_gives_the_lease_back(
    overdue, monkeypatch
):
    monkeypatch.setattr(shielded, "FINISH_SECONDS", 0.05)
    caller = asyncio.create_task(service(overdue).rounds.advance(overdue.experiment))
    await overdue.slow.asleep.wait()
    await service(overdue).close()
    await asyncio.gather(caller, return_exceptions=True)
    round_ = await stored(overdue)
    assert (round_.state, round_.lease.released, round_.lease.deaths) == ("aggregating", True, 0)
    await overdue.coordinator().rounds.advance(overdue.experiment)
    assert (await stored(overdue)).state == "closed"


async def test_a_server_told_to_stop_begins_nothing_more_and_gives_back_at_its_end(
    tmp_path, monkeypatch
):
    """SIGTERM reaches the coordinator before the lifespan ends, and the end waits for its work."""
    monkeypatch.setattr(shielded, "FINISH_SECONDS", 0.05)
    app = create_app(Settings(admin_key=ADMIN_KEY, data_dir=tmp_path, tick_seconds=0))
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # as a server has its own
    try:
        async with app.router.lifespan_context(app):
            service, cancelled = app.state.coordinator, asyncio.Event()

            async def endless():
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    await service.context.repo.documents.check()  # the store is open still
                    cancelled.set()
                    raise

            service.context.tasks.start(endless())
            assert not service.context.tasks.ending
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(10):
                while not service.context.tasks.ending:
                    await asyncio.sleep(0.001)
            assert service.long_polls.seconds == 0
        assert cancelled.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)


# The store fails


async def test_a_store_of_weights_that_is_away_is_no_death_and_nobody_else_is_told(overdue):
    """However often and however long: the lease is given back, and polls get their answers."""
    failing = Failing(overdue.blobs, lambda name, *args: name == "get")
    overdue.app.state.coordinator = overdue.coordinator(blobs=failing)
    for _ in range(30):
        shown = await overdue.admin.experiment(overdue.experiment)
        assert (shown.state, shown.current_round.state) == ("running", "aggregating")
        round_ = await stored(overdue)
        assert (round_.lease.released, round_.lease.deaths) == (True, 0)
        overdue.clock.now += 1000
    assert failing.failed >= 30
    failing.away = False
    shown = await overdue.admin.experiment(overdue.experiment)
    assert (shown.state, shown.model_version) == ("completed", 1)


async def test_a_database_that_is_away_for_a_while_gets_the_lease_back_when_it_returns(
    overdue, monkeypatch
):
    monkeypatch.setattr(leases, "_RETRY_SECONDS", 0.001)
    documents = Failing(overdue.documents, lambda name, *args: True)
    documents.away = False

    class Cutting:
        """The database goes away as the first part of the new model is stored."""

        def __getattr__(self, name):
            return getattr(overdue.blobs, name)

        async def put(self, key, data):
            documents.away = True
            raise StoreUnavailable("The connection is cut.")

    coordinator = overdue.coordinator(documents, Cutting())
    with pytest.raises(StoreUnavailable):
        await coordinator.rounds.advance(overdue.experiment)
    assert not (await stored(overdue)).lease.released
    documents.away = False

    async def given_back():
        return (await stored(overdue)).lease.released

    await until(given_back)
    assert (await stored(overdue)).lease.deaths == 0
