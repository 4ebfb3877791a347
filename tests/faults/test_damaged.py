"""What an aggregation kept of itself and is damaged when another process goes on is redone."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from app.service.coordinator import Limits
from tests.support.federation import Federation
from tests.support.gathering import LIMITS, Gathering


async def harm(blobs, key, how):
    data = await blobs.get(key)
    await blobs.delete(key)
    if how != "gone":
        await blobs.put(key, {"altered": b"\x07" * len(data), "cut": data[:-1]}[how])


@pytest.mark.parametrize("how", ["altered", "cut", "gone"])
@pytest.mark.parametrize("which", ["models/", "/sums/"])
async def test_a_damaged_part_is_never_published(which, how, caplog):
    """The first process dies after a while; some of what it stored is not what it says."""
    whole = await Gathering.of()
    for slot in range(11):
        await whole.upload(slot)
    expected = await whole.finish()
    gathering = await Gathering.of(replace(LIMITS, step_updates=100))
    blobs = gathering.federation.blobs
    for slot in range(10):
        await gathering.upload(slot)
    few = replace(LIMITS, step_updates=2)
    await gathering.upload(10, service=gathering.call(10, limits=few))  # it begins to close
    prefix = f"models/{gathering.id}/0000001" if which == "models/" else "uploads/"
    for _ in range(60):  # until some are there
        found = [key for key in await blobs.sizes(prefix) if which in key]
        if found or (await gathering.round()).state == "closed":
            break
        await gathering.call(limits=few).rounds.advance(gathering.id)
    assert found
    for key in found:
        await harm(blobs, key, how)
    assert await gathering.finish() == expected
    if (which, how) == ("models/", "altered"):
        told = [r.levelname for r in caplog.records if "damaged file" in r.getMessage()]
        assert told == ["WARNING"]


@pytest.mark.parametrize("how", ["altered", "cut"])
async def test_a_damaged_copy_for_clients_is_never_published(store, how):
    """A part of the copy lies there already, as a process stored it that then died."""
    limits = Limits(part_bytes=256, lease_seconds=30, step_seconds=0.0)
    federation = Federation(store.documents, store.blobs, limits=limits)

    def model(value):
        return safetensors.numpy.save({"w": np.full(300, value, np.float32)})

    async with federation.serving():
        keys = {}
        for turn in ("well", "damaged"):
            made, key = await federation.create(
                model(0), clients=2, rounds=1, download_encoding="float16", seed=len(turn)
            )
            for member in [await federation.enrol(made, key, n) for n in range(2)]:
                await member.upload_bytes(1, model(1.5))
            for suffix, data in keys.items() if turn == "damaged" else ():
                broken = b"\x07" * len(data) if how == "altered" else data[:-1]
                await store.blobs.put(f"copies/{made}/{suffix}", broken)
            while not (await federation.admin.experiment(made)).ended_at:
                pass
            version = await federation.app.state.coordinator.models.version(made, 1)
            copy = version.compressed
            parts = [await store.blobs.get(copy.key(n)) for n in range(len(copy.parts))]
            assert hashlib.sha256(b"".join(parts)).hexdigest() == copy.sha256
            if turn == "well":
                for number, data in enumerate(parts):
                    keys[copy.key(number).removeprefix(f"copies/{made}/")] = data
        assert len(keys) > 1
