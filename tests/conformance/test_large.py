"""A model of 100 MB through every way in: `make conformance`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
import pytest
import safetensors.numpy

from serverless_fl.weights.header import header_length
from tests.support.federation import Member
from tests.support.ways import Api

SHAPES = {"embedding": (4000, 2500), "hidden": (3000, 4000), "out": (1000, 2999), "bias": (1000,)}
COUNTS = (10, 25)

pytestmark = [pytest.mark.large, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Files:
    initial: bytes
    updates: tuple[bytes, bytes]
    mean: bytes


def model(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {k: generator.standard_normal(s, np.float32) for k, s in SHAPES.items()}


@pytest.fixture(scope="module")
def files() -> Files:
    first, second = model(1), model(2)
    mean = {
        name: (
            (
                first[name].astype(np.float64) * COUNTS[0]
                + second[name].astype(np.float64) * COUNTS[1]
            )
            / sum(COUNTS)
        ).astype(np.float32)
        for name in SHAPES
    }
    save = safetensors.numpy.save
    return Files(save(model(0)), (save(first), save(second)), save(mean))


async def test_a_round_of_a_hundred_megabytes(api: Api, files: Files, request):
    assert len(files.initial) - header_length(files.initial[:8]) == 100_000_000
    size = api.way.part_bytes
    experiment, members = await api.start(
        files.initial,
        clients=2,
        clients_per_round=2,
        rounds=1,
        dataset_size=60,
        deadline_seconds=3600,
    )
    assert await members[0].api.download_model(experiment, 0, size) == files.initial
    receipts = await asyncio.gather(
        *(
            member.api.upload_update(experiment, 1, data, count, {}, size)
            for member, data, count in zip(members, files.updates, COUNTS, strict=True)
        )
    )
    assert [receipt.size for receipt in receipts] == [len(data) for data in files.updates]
    await ended(members[0])
    assert await api.admin.download_model(experiment, 1, size) == files.mean
    for container in request.getfixturevalue(api.way.containers) if api.way.containers else ():
        assert container.peak_memory() < api.way.memory


async def ended(member: Member) -> None:
    """Ask until the round is closed: each call does a step of the aggregation at most."""
    while (told := await member.status()).action != "done":
        await asyncio.sleep(min(told.retry_after, 1.0))
