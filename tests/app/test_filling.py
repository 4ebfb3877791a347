"""Groups are folded as they fill: the same bytes as at the close, and no call reads too much."""

import asyncio
import hashlib
import random
import secrets
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from app.domain.errors import BadWeights, OutOfTurn, StoreUnavailable
from app.service import Limits
from app.wire import schema
from tests.faults.network import Died, Network, Risk, open_in_memory
from tests.federation import Federation, config

PARTIES, GROUP = 11, 3
LIMITS = Limits(part_bytes=256, fold_updates=GROUP, step_updates=GROUP, lease_seconds=30)


def noise(slot: int) -> bytes:
    """Several parts of 256 bytes; floats whose sums depend on their order, and exact integers."""
    draw = np.random.default_rng(slot)
    return safetensors.numpy.save(
        {
            "a": draw.normal(size=150).astype(np.float32),
            "b": draw.integers(-(2**60), 2**60, size=21),
        }
    )


def parts_of(data: bytes) -> list[bytes]:
    return [data[at : at + LIMITS.part_bytes] for at in range(0, len(data), LIMITS.part_bytes)]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def mean(cohort, accepted, group=GROUP) -> dict[str, np.ndarray]:
    """The weighted mean, computed plainly, by groups of places in the cohort."""
    files = {slot: safetensors.numpy.load(noise(slot)) for slot in accepted}
    brackets = [cohort[at : at + group] for at in range(0, len(cohort), group)]
    brackets = [[s for s in b if s in files] for b in brackets]
    sums = [sum(files[s]["a"].astype(np.float64) * float(s + 1) for s in b) for b in brackets if b]
    total = sum(slot + 1 for slot in accepted)
    exact = [sum(int(files[s]["b"][i]) * (s + 1) for s in accepted) for i in range(21)]
    return {
        "a": (sum(sums[1:], sums[0]) / total).astype(np.float32),
        "b": np.array([half_even(value, total) for value in exact]),
    }


def half_even(value: int, total: int) -> int:
    low, rest = divmod(value, total)
    return low + (2 * rest > total or (2 * rest == total and low % 2 == 1))


class Tally:
    """A blob store as one call sees it: it counts what the call reads to fold it, and not what a
    commit reads of its own update to check it.
    """

    def __init__(self, inner, own=None):
        self._inner, self._own = inner, None if own is None else f"{own:07d}"
        self.reads, self.written, self._checked = [], [], set()

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def get(self, key):
        if key.startswith("uploads/"):
            if key.split("/")[3] == self._own and key not in self._checked:
                self._checked.add(key)  # by the commit
            else:
                self.reads.append(key)
        return await self._inner.get(key)

    async def put(self, key, data):
        self.written.append(key)
        await self._inner.put(key, data)

    @property
    def updates(self):
        """Parts of updates, and files of sums, however many parts these have."""
        return {key.rpartition("/")[0] if "/sums/" in key else key for key in self.reads}


class Gathering:
    """A round of an experiment, straight over the service; every call is a process of its own."""

    def __init__(self, federation):
        self.federation = federation
        self.calls: list[Tally] = []

    @classmethod
    async def of(cls, limits=LIMITS, parties=PARTIES, stores=None, **changes):
        federation = Federation(*(stores or await open_in_memory()), limits=limits)
        self = cls(federation)
        service = federation.coordinator()
        settings = {"clients": parties, "clients_per_round": parties, "rounds": 1, "quorum": 1}
        made_of = config(dataset_size=100_000, **(settings | changes))
        request = schema.CreateExperiment(name="x", config=made_of)
        made, key = await service.experiments.create(request, secrets.token_hex(8))
        self.id, data = made.id, noise(10**6)
        for n, part in enumerate(parts_of(data)):
            await service.experiments.store_initial_part(made.id, n, sha(part), part)
        commit = schema.WeightsCommit(sha256=sha(data), parts=[*map(sha, parts_of(data))])
        await service.experiments.commit_initial(made.id, commit)
        self.clients = {}
        for n in range(made_of.clients):
            got = await service.enrolment.subscribe(
                made.id, key, schema.Subscribe(client_key=f"{n:04d}" * 10)
            )
            client = await service.enrolment.client_of(made.id, got.token)
            self.clients[client.slot] = client
        return self

    def call(self, own=None, **changes):
        """A process for one call; what it reads is counted."""
        tally = Tally(changes.pop("blobs", self.federation.blobs), own)
        self.calls.append(tally)
        return self.federation.coordinator(blobs=tally, **changes)

    async def upload(self, slot, data=None, service=None):
        data = data or noise(slot)
        part = (service or self.call(slot)).participation
        with suppress(OutOfTurn):  # the round may have closed over it: the commit tells
            for n, piece in enumerate(parts_of(data)):
                await part.store_part(self.clients[slot], 1, n, sha(piece), piece)
        parts = [*map(sha, parts_of(data))]
        commit = schema.UpdateCommit(sha256=sha(data), parts=parts, num_examples=slot + 1)
        await part.commit(self.clients[slot], 1, commit)

    async def poll(self, slot=0):
        await self.call().participation.status(self.clients[slot])

    async def round(self):
        return await self.federation.coordinator().context.repo.round(self.id, 1)

    async def finish(self):
        """Other calls go on until the experiment is over; gives the model's bytes."""
        for _ in range(200):
            experiment, _ = await self.call().rounds.advance(self.id)
            if experiment.ended:
                assert experiment.state == "completed", experiment.reason
                return await self.model()
        raise AssertionError("it has no end")

    async def model(self):
        service = self.federation.coordinator()
        version = await service.models.version(self.id, 1)
        data = b"".join(
            [
                await self.federation.blobs.get(k)
                for k in map(version.blob.key, range(len(version.blob.parts)))
            ]
        )
        assert sha(data) == version.blob.sha256
        return data

    async def sums(self):
        return [key for key in await self.federation.blobs.sizes("uploads/") if "/sums/" in key]

    async def expect(self, accepted):
        """Of the plain mean, and no uploads left."""
        round_ = await self.round()
        assert set(round_.accepted) == set(accepted)
        found = safetensors.numpy.load(await self.finish())
        for name, values in mean(round_.cohort, accepted).items():
            np.testing.assert_array_equal(found[name], values)
        assert await self.federation.blobs.sizes("uploads/") == {}


def orders():
    shuffled = list(range(PARTIES))
    random.Random(1).shuffle(shuffled)
    return {
        "ascending": list(range(PARTIES)),
        "descending": list(range(PARTIES))[::-1],
        "shuffled": shuffled,
    }


@pytest.mark.parametrize("order", orders().values(), ids=orders())
@pytest.mark.parametrize("step", [2, GROUP, 100])
async def test_in_whatever_order_they_come_the_mean_is_that_of_the_groups(order, step):
    gathering = await Gathering.of(replace(LIMITS, step_updates=step))
    for slot in order:
        await gathering.upload(slot)
    await gathering.finish()
    await gathering.expect(order)
    # Whatever a commit reads to fold it, and a poll and the close, is no more than a call may read.
    assert max(len(call.updates) for call in gathering.calls) <= step
    written = [key for call in gathering.calls for key in call.written]
    assert len(written) == len(set(written)), "something was folded twice"


async def test_a_group_is_folded_by_the_call_that_fills_it_and_not_again_at_the_close():
    gathering = await Gathering.of(replace(LIMITS, step_updates=100))
    for slot in (0, 2, 5, 3):
        await gathering.upload(slot)
        assert not gathering.calls[-1].reads
    await gathering.upload(4)
    spans = len(gathering.calls[-1].written) // 2  # sums are twice as large as a part
    read = {key.split("/")[3] for key in gathering.calls[-1].reads}
    assert read == {"0000003", "0000004", "0000005"}
    before = len(gathering.calls)
    for slot in (1, 6, 7, 8, 9, 10):
        await gathering.upload(slot)
    at_the_close = gathering.calls[-1].updates
    folded = [key for key in at_the_close if "/sums/" not in key]
    assert {key.split("/")[3] for key in folded} == {"0000009", "0000010"}  # the last group's
    assert len(gathering.calls[before].reads) >= spans
    await gathering.expect(range(PARTIES))


async def test_folded_at_the_close_they_are_the_same_bytes(monkeypatch):
    early = await Gathering.of()
    late = await Gathering.of()
    for slot in range(PARTIES):
        await early.upload(slot)
    assert await early.sums()

    async def nothing(*args):
        pass

    monkeypatch.setattr("app.service.filling.fold_filled", nothing)
    monkeypatch.setattr("app.service.filling.fold_full", nothing)
    for slot in range(PARTIES):
        await late.upload(slot)
        assert slot < PARTIES - 1 or await late.sums() or (await late.round()).state == "closed"
    assert await late.finish() == await early.finish()


@pytest.mark.parametrize("missing", [(4,), (0, 1, 2), (1, 5, 6, 7, 8, 10)])
async def test_a_deadline_leaves_holes(missing):
    gathering = await Gathering.of()
    came = [slot for slot in range(PARTIES) if slot not in missing]
    for slot in came:
        await gathering.upload(slot)
    gathering.federation.clock.now += 61
    await gathering.finish()
    await gathering.expect(came)
    assert max(len(call.updates) for call in gathering.calls) <= GROUP


async def test_a_client_that_was_refused_and_came_back_is_in_the_mean():
    """Its group was full without it, and folded; the close does not take those sums."""
    gathering = await Gathering.of()
    await gathering.upload(0)
    broken = safetensors.numpy.save({"a": np.full(150, np.nan, np.float32), "b": np.arange(21)})
    with pytest.raises(BadWeights):
        await gathering.upload(1, broken)
    await gathering.upload(2)
    without = await gathering.sums()
    assert without
    for slot in range(1, PARTIES):
        if slot != 2:
            await gathering.upload(slot)
    await gathering.finish()
    await gathering.expect(range(PARTIES))


async def test_a_client_that_is_revoked_is_not_waited_for_and_what_it_sent_stands():
    gathering = await Gathering.of()
    service = gathering.federation.coordinator()
    await service.access.revoke(gathering.id, "client-01", "admin")
    await gathering.upload(0)
    await gathering.upload(2)
    assert await gathering.sums()  # the group is full without it
    await gathering.upload(3)
    await gathering.upload(4)
    await gathering.upload(5)
    await service.access.revoke(
        gathering.id, "client-04", "admin"
    )  # it is in the sums, and stays there
    came = [slot for slot in range(PARTIES) if slot != 1]
    for slot in range(6, PARTIES):
        await gathering.upload(slot)
    await gathering.finish()
    await gathering.expect(came)


async def test_another_attempt_has_other_groups():
    """What was folded in the first attempt is of other groups, and is swept in the end."""
    gathering = await Gathering.of(clients=14, clients_per_round=PARTIES, quorum=9, seed=4)
    first = (await gathering.round()).cohort
    for slot in first[:4]:
        await gathering.upload(slot)
    early = await gathering.sums()
    assert early
    gathering.federation.clock.now += 61
    await gathering.poll()
    again = await gathering.round()
    assert again.attempt == 2
    assert again.cohort != first
    assert set(first[:4]) < set(again.cohort)
    assert set(early) <= set(await gathering.sums())
    for slot in again.cohort:
        if slot not in first[:4]:
            await gathering.upload(slot)
    await gathering.finish()
    await gathering.expect(again.cohort)


async def test_stragglers_of_an_earlier_attempt_are_folded_no_more_than_a_few_a_call():
    """They are one group, however many, so it is folded in runs; sums go from one to the next."""
    gathering = await Gathering.of(clients=30, clients_per_round=PARTIES, quorum=2, seed=2)
    first = (await gathering.round()).cohort
    # They pass the check of the turn, then doze until the next attempt has been drawn.
    drawn, asleep = asyncio.Event(), []

    class Slow:
        def __getattr__(self, name):
            return getattr(gathering.federation.documents, name)

        async def insert(self, kind, *args, **kwargs):
            if kind == "updates":
                asleep.append(args)
                await drawn.wait()
            return await gathering.federation.documents.insert(kind, *args, **kwargs)

    slow = [
        asyncio.create_task(
            gathering.upload(s, service=gathering.federation.coordinator(documents=Slow()))
        )
        for s in first
    ]
    while len(asleep) < len(first):
        await asyncio.sleep(0)
    gathering.federation.clock.now += 61
    await gathering.poll()
    again = await gathering.round()
    assert again.attempt == 2
    drawn.set()
    await asyncio.gather(*slow, return_exceptions=True)
    for slot in again.cohort:
        if slot not in first:
            await gathering.upload(slot)
    gathering.federation.clock.now += 61
    data = safetensors.numpy.load(await gathering.finish())
    accepted = (await gathering.round()).accepted
    strays = [slot for slot in accepted if slot not in again.cohort]
    assert len(strays) > 2 * GROUP
    files = {s: safetensors.numpy.load(noise(s))["a"].astype(np.float64) for s in accepted}
    brackets = [
        [s for s in again.cohort[at : at + GROUP] if s in accepted]
        for at in range(0, PARTIES, GROUP)
    ]
    sums = [sum(files[s] * float(s + 1) for s in b) for b in [*brackets, strays] if b]
    whole = sum(sums[1:], sums[0]) / sum(s + 1 for s in accepted)
    np.testing.assert_array_equal(data["a"], whole.astype(np.float32))
    assert max(len(call.updates) for call in gathering.calls) <= GROUP


# Calls that die, that race, that come late


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_call_may_die_at_any_write(after):
    undisturbed = await Gathering.of(parties=6)
    for slot in range(6):
        await undisturbed.upload(slot)
    expected = await undisturbed.finish()
    for n in range(1, 200):
        gathering, deaths = await Gathering.of(parties=6), 0
        left = [n]

        class Dying:
            def __init__(self, inner, left=left):
                self._inner, self._left = inner, left

            def __getattr__(self, name):
                method = getattr(self._inner, name)
                if name not in ("insert", "replace", "put", "delete"):
                    return method

                async def write(*args, **kwargs):
                    self._left[0] -= 1
                    if self._left[0] == 0 and not after:
                        raise Died
                    result = await method(*args, **kwargs)
                    if self._left[0] == 0:
                        raise Died
                    return result

                return write

        stores = gathering.federation
        for slot in (5, 1, 0, 4, 2, 3):
            while True:
                service = stores.coordinator(Dying(stores.documents), Dying(stores.blobs))
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


async def test_two_calls_do_not_fold_the_same_group_at_once():
    gathering = await Gathering.of()
    asleep, wake = asyncio.Event(), asyncio.Event()

    class Sleepy:
        def __getattr__(self, name):
            return getattr(gathering.federation.blobs, name)

        async def put(self, key, data):
            if "/sums/" in key:
                asleep.set()
                await wake.wait()
            await gathering.federation.blobs.put(key, data)

    await gathering.upload(0)
    await gathering.upload(1)
    filling = asyncio.create_task(gathering.upload(2, service=gathering.call(2, blobs=Sleepy())))
    await asleep.wait()
    await gathering.call().rounds.advance(gathering.id)
    assert not gathering.calls[-1].reads
    gathering.federation.clock.now += LIMITS.lease_seconds  # it may be dead
    await gathering.call().rounds.advance(gathering.id)
    assert len(gathering.calls[-1].reads) == GROUP
    wake.set()
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


async def test_a_fault_in_folding_early_refuses_no_update_and_is_tried_again(caplog):
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


async def test_sums_that_come_after_the_close_are_swept_and_kept_updates_stay():
    gathering = await Gathering.of(keep_updates=1)
    asleep, wake = asyncio.Event(), asyncio.Event()

    class Sleepy:
        def __getattr__(self, name):
            return getattr(gathering.federation.blobs, name)

        async def put(self, key, data):
            if "/sums/" in key:
                asleep.set()
                await wake.wait()
            await gathering.federation.blobs.put(key, data)

    await gathering.upload(0)
    await gathering.upload(1)
    filling = asyncio.create_task(gathering.upload(2, service=gathering.call(2, blobs=Sleepy())))
    await asleep.wait()
    for slot in range(3, PARTIES):
        await gathering.upload(slot)
    await gathering.finish()
    wake.set()
    with suppress(StoreUnavailable):
        await filling
    assert await gathering.sums()
    kept = [k for k in await gathering.federation.blobs.sizes("uploads/") if "/sums/" not in k]
    await gathering.call().tick()
    assert [*await gathering.federation.blobs.sizes("uploads/")] == kept
    assert kept


async def test_what_is_large_is_deleted_by_ticks_a_step_at_a_time():
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
        await gathering.call().tick()
        ticks += 1
        assert len(await blobs.sizes(f"uploads/{gathering.id}/")) < len(left)
    assert ticks > 3
    assert len(await blobs.sizes(f"uploads/{other.id}/")) == len(parts_of(noise(3)))
