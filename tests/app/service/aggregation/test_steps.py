"""An aggregation in cells: whoever sums which, in however many calls, the bytes are the same."""

import asyncio
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits
from tests.support.federation import BOTH_STORES, Federation
from tests.support.gathering import half_even
from tests.support.raw_file import file_of

CLIENTS = 5


def model(seed: int) -> bytes:
    """Tensors that parts of 256 bytes cut at odd places, one of them empty."""
    draw = np.random.default_rng(seed)
    return safetensors.numpy.save(
        {
            "a.weight": draw.normal(size=(7, 31)).astype(np.float32),
            "b.none": np.zeros((0, 3), np.float32),
            "c.half": draw.normal(size=97).astype(np.float16),
            "d.steps": draw.integers(-(2**40), 2**40, size=33),
            "e.double": draw.normal(size=41),
        }
    )


async def experiment(federation, initial=None, examples=lambda n: n + 1, data=None):
    """One round with every client's update in, but the last commit; gives that as a job."""
    settings = {"clients": CLIENTS, "clients_per_round": CLIENTS, "rounds": 1}
    made, key = await federation.create(initial or model(0), dataset_size=1000, **settings)
    members = [await federation.enrol(made, key, n) for n in range(CLIENTS)]
    members.sort(key=lambda member: member.id)
    for n, member in enumerate(members[:-1]):
        await member.upload_bytes(1, data or model(n + 1), examples(n))
    last = CLIENTS - 1
    return made, members[-1].upload_bytes(1, data or model(last + 1), examples(last))


def expected(group: int) -> dict[str, np.ndarray]:
    """The weighted mean, computed plainly; floats are summed group by group."""
    updates = [(safetensors.numpy.load(model(n + 1)), n + 1) for n in range(CLIENTS)]
    total = sum(n for _, n in updates)
    means = {}
    for name, like in updates[0][0].items():
        if like.dtype.kind == "f":
            sums = [
                sum(w[name].astype(np.float64) * float(n) for w, n in updates[at : at + group])
                for at in range(0, CLIENTS, group)
            ]
            means[name] = (sum(sums[1:], sums[0]) / total).astype(like.dtype)
        else:
            exact = [sum(int(w[name][i]) * n for w, n in updates) for i in range(like.size)]
            means[name] = np.array([half_even(value, total) for value in exact])
    return means


@pytest.mark.parametrize("group", [64, 2], ids=["one group", "groups of two"])
@pytest.mark.parametrize("part_bytes", [1 << 20, 256], ids=["one span", "many spans"])
@pytest.mark.parametrize("step_seconds", [60.0, 0.0], ids=["at once", "a cell a call"])
async def test_however_it_is_cut_the_mean_is_the_mean(store, group, part_bytes, step_seconds):
    federation = Federation(store.documents, store.blobs)
    federation.limits = Limits(part_bytes=part_bytes, group_size=group, step_seconds=step_seconds)
    puts: list[str] = []

    class Counted:
        def __getattr__(self, name):
            return getattr(store.blobs, name)

        async def put(self, key, data):
            puts.append(key)
            await store.blobs.put(key, data)

    async with federation.serving():
        made, last = await experiment(federation)
        federation.app.state.coordinator = federation.coordinator(blobs=Counted())
        await last
        calls = 1
        while (await federation.admin.experiment(made)).state == "running":
            # Each call is another process.
            federation.app.state.coordinator = federation.coordinator(blobs=Counted())
            calls += 1
        found = safetensors.numpy.load(await federation.admin.download_model(made, 1))
        for name, mean in expected(group).items():
            np.testing.assert_array_equal(found[name], mean.reshape(found[name].shape))
        round_ = await federation.coordinator().context.repo.round(made, 1)
    assert round_.lease.deaths == 0
    models = [key for key in puts if key.startswith("models/")]
    sums = [key for key in puts if "/sums/" in key]
    assert len(models) == len(set(models)), "a span was summed twice"
    assert len(sums) == len(set(sums)), "a group was summed twice"
    assert (len(models) > 5) == (part_bytes == 256)
    assert bool(sums) == (group == 2)
    assert (calls > 3) == (step_seconds == 0 and len(models) + len(sums) > 3)


async def test_tensors_in_another_order_are_averaged_by_name(store):
    federation = Federation(store.documents, store.blobs)
    federation.limits = Limits(part_bytes=256)
    tensors = safetensors.numpy.load(model(3))
    names = sorted(tensors, reverse=True)
    # A file whose data lie the other way round, written by hand.
    entries, place, body = {}, 0, b""
    types = {"f4": "F32", "f2": "F16", "i8": "I64", "f8": "F64"}
    for name in names:
        data = tensors[name].tobytes()
        entries[name] = {
            "dtype": types[tensors[name].dtype.str[1:]],
            "shape": tensors[name].shape,
            "data_offsets": [place, place + len(data)],
        }
        place, body = place + len(data), body + data
    turned = file_of(entries, body)
    async with federation.serving():
        made, last = await experiment(federation, data=turned)
        await last
        found = safetensors.numpy.load(await federation.admin.download_model(made, 1))
    for name, values in tensors.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-14)


@BOTH_STORES
async def test_a_stop_in_the_middle_leaves_nothing_behind(store):
    federation = Federation(store.documents, store.blobs)
    federation.limits = Limits(part_bytes=256, step_seconds=0.0, group_size=2)
    async with federation.serving():
        made, last = await experiment(federation)
        await last
        for _ in range(4):
            await federation.admin.experiment(made)
        begun = [key for key in await store.blobs.sizes("") if f"models/{made}/0000001/" in key]
        assert begun  # the next model is stored in part
        await federation.admin.stop_experiment(made)
        left = [key for key in await store.blobs.sizes("") if made in key]
        assert left
        assert all(key.startswith(f"models/{made}/0000000/") for key in left)


async def test_memory_is_bounded_by_a_part_and_not_by_the_model(store):
    federation = Federation(store.documents, store.blobs)
    federation.limits = Limits(part_bytes=1 << 20)
    big = safetensors.numpy.save({"w": np.ones(3_000_000, np.float32)})  # 12 MB
    async with federation.serving():
        made, last = await experiment(federation, big, data=big)
        coordinator = federation.coordinator(limits=replace(federation.limits, step_seconds=1e9))
        asleep = federation.coordinator(limits=replace(federation.limits, step_seconds=0.0))
        federation.app.state.coordinator = asleep
        await last  # the first cell is done
        tracemalloc.start()
        await coordinator.rounds.advance(made)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (await federation.admin.experiment(made)).state == "completed"
    assert peak < 8 * (1 << 20), f"{peak / 2**20:.1f} MiB"


async def test_a_fault_nobody_foresaw_is_tried_again_and_then_fails_the_experiment(store, caplog):
    """Not for ever: an aggregation that kills every call that begins it would never end."""
    federation = Federation(store.documents, store.blobs)

    class Broken:
        def __getattr__(self, name):
            return getattr(store.blobs, name)

        async def put(self, key, data):
            if key.startswith("models/") and "/0000001/" in key:
                raise MemoryError("no room")
            await store.blobs.put(key, data)

    async with federation.serving():
        made, last = await experiment(federation)
        federation.app.state.coordinator = federation.coordinator(blobs=Broken())
        await last  # accepted all the same
        for _ in range(40):
            federation.clock.now += 10_000
            shown = await federation.admin.experiment(made)
            if shown.state == "failed":
                break
        assert shown.state == "failed"
        assert "could not be aggregated" in shown.reason
        assert shown.model_version == 0
        assert await federation.admin.download_model(made) == model(0)
    assert "no room" in caplog.text


@BOTH_STORES
async def test_many_calls_at_once_share_the_work_and_end_once(store):
    federation = Federation(store.documents, store.blobs)
    federation.limits = Limits(part_bytes=256, step_seconds=0.0, group_size=2)
    async with federation.serving():
        made, last = await experiment(federation)
        await last
        for _ in range(200):
            coordinators = [federation.coordinator(worker=f"w{n}") for n in range(4)]
            await asyncio.gather(*(c.rounds.advance(made) for c in coordinators))
            shown = await federation.admin.experiment(made)
            if shown.state == "completed":
                break
        assert shown.state == "completed"
        found = safetensors.numpy.load(await federation.admin.download_model(made, 1))
        for name, mean in expected(2).items():
            np.testing.assert_array_equal(found[name], mean.reshape(found[name].shape))
