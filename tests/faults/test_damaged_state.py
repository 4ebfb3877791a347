"""A strategy's state and stacks that are damaged when another process goes on are made again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.test_damaged import harm
from tests.support.gathering import LIMITS, PARTIES, Gathering

FEW = replace(LIMITS, step_seconds=0.0)
FEDADAM, MEDIAN, KRUM = "fedadam", "median", "krum"


async def version(gathering):
    model = await gathering.federation.coordinator().models.version(gathering.id, 1)
    return model.blob.sha256, {name: file.sha256 for name, file in model.state.items()}


async def gathered(strategy):
    return await Gathering.of(FEW, strategy=strategy, quorum=PARTIES)


async def quiet(strategy):
    gathering = await gathered(strategy)
    for slot in range(PARTIES):
        await gathering.upload(slot)
    await gathering.finish()
    return await version(gathering)


@pytest.mark.parametrize("how", ["altered", "cut", "gone"])
@pytest.mark.parametrize(
    ("strategy", "which"),
    [(FEDADAM, "/state/"), (FEDADAM, "0000001/00000-"), (MEDIAN, "/sums/"), (KRUM, "/sums/")],
)
async def test_it_is_made_again(strategy, which, how):
    """Each call does one task; after every call something that is there is harmed, three times."""
    expected, gathering = await quiet(strategy), await gathered(strategy)
    blobs, harmed = gathering.federation.blobs, 0
    for slot in range(PARTIES):
        await gathering.upload(slot)
    for _ in range(500):
        if (await gathering.round()).state == "closed":
            break
        found = [key for key in await blobs.sizes("") if which in key]
        if found and harmed < 3:
            harmed += 1
            await harm(blobs, found[0], how)
        await gathering.call().rounds.advance(gathering.id)
    assert harmed
    await gathering.finish()
    assert await version(gathering) == expected


async def test_without_a_lost_update_the_others_are_weighed_anew():
    """The weights were recorded already when the store lost an update."""
    gathering = await Gathering.of(FEW, strategy="multi-krum", quorum=8)
    blobs = gathering.federation.blobs
    for slot in range(PARTIES):
        await gathering.upload(slot)
    while not (before := (await gathering.round()).weights):
        await gathering.call().rounds.advance(gathering.id)
    taken = (await gathering.round()).accepted[before.index(1.0)]
    for key in await blobs.sizes(f"uploads/{gathering.id}/0000001/{taken:07d}/"):
        await blobs.delete(key)
    await gathering.finish()
    round_ = await gathering.round()
    assert taken not in round_.accepted
    assert len(round_.weights) == len(round_.accepted) == PARTIES - 1
