"""A round of a few clients straight over the service; every call is a process of its own."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress

import numpy as np
import safetensors.numpy

from app.service.coordinator import Limits, Subscriber
from serverless_fl.domain.errors import OutOfTurn
from serverless_fl.domain.records import UpdateCommit, WeightsCommit
from tests.support.federation import Federation, config
from tests.support.network import open_in_memory

PARTIES, GROUP = 11, 3
LIMITS = Limits(part_bytes=256, group_size=GROUP, step_updates=GROUP, lease_seconds=30)


def noise(slot: int) -> bytes:
    """Several parts of 256 bytes; floats whose sums depend on their order, and exact integers."""
    draw = np.random.default_rng(slot)
    return safetensors.numpy.save(
        {
            "a": draw.normal(size=150).astype(np.float32),
            "b": draw.integers(-(2**40), 2**40, size=21),
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
    """A blob store as one call sees it: it counts what the call reads to sum it, and not what a
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
    async def of(cls, limits=LIMITS, parties=PARTIES, stores=None, initial=None, **changes):
        federation = Federation(*(stores or await open_in_memory()), limits=limits)
        self = cls(federation)
        service = federation.coordinator()
        settings = {"clients": parties, "clients_per_round": parties, "rounds": 1, "quorum": 1}
        made_of = config(dataset_size=100_000, **(settings | changes))
        made, key = await service.experiments.create("x", made_of.to_config(), secrets.token_hex(8))
        self.id, data = made.id, initial or noise(10**6)
        for n, part in enumerate(parts_of(data)):
            await service.experiments.store_initial_part(made.id, n, sha(part), part)
        commit = WeightsCommit(sha256=sha(data), parts=[*map(sha, parts_of(data))])
        await service.experiments.commit_initial(made.id, commit)
        self.clients = {}
        for n in range(made_of.clients):
            got = await service.enrolment.subscribe(
                made.id, key, Subscriber(client_key=f"{n:04d}" * 10)
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
        updates = (service or self.call(slot)).updates
        with suppress(OutOfTurn):  # the round may have closed over it: the commit tells
            for n, piece in enumerate(parts_of(data)):
                await updates.store_part(self.clients[slot], 1, n, sha(piece), piece)
        parts = [*map(sha, parts_of(data))]
        commit = UpdateCommit(sha256=sha(data), parts=parts, num_examples=slot + 1)
        await updates.commit(self.clients[slot], 1, commit)

    async def poll(self, slot=0):
        await self.call().turns.status(self.clients[slot])

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
