"""Groups are summed as they fill: the same bytes as at the close, and no call reads too much."""

import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from serverless_fl.domain.errors import BadWeights
from tests.support.gathering import GROUP, LIMITS, PARTIES, Gathering, noise
from tests.support.leases import Slow


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
    # Whatever a commit reads to sum it, and a poll and the close, is no more than a call may read.
    assert max(len(call.updates) for call in gathering.calls) <= step
    written = [key for call in gathering.calls for key in call.written]
    assert len(written) == len(set(written)), "something was summed twice"


async def test_a_group_is_summed_by_the_call_that_fills_it_and_not_again_at_the_close():
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
    summed = [key for key in at_the_close if "/sums/" not in key]
    assert {key.split("/")[3] for key in summed} == {"0000009", "0000010"}  # the last group's
    assert len(gathering.calls[before].reads) >= spans
    await gathering.expect(range(PARTIES))


async def test_summed_at_the_close_they_are_the_same_bytes(monkeypatch):
    early = await Gathering.of()
    late = await Gathering.of()
    for slot in range(PARTIES):
        await early.upload(slot)
    assert await early.sums()

    async def nothing(*args):
        pass

    monkeypatch.setattr("app.service.aggregation.run.sum_groups", nothing)
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
    """Its group was full without it, and summed; the close does not take those sums."""
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
    """What was summed in the first attempt is of other groups, and is deleted in the end."""
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


async def test_stragglers_of_an_earlier_attempt_are_summed_no_more_than_a_few_a_call():
    """They are one group, however many, so it is summed in runs; sums go from one to the next."""
    gathering = await Gathering.of(clients=30, clients_per_round=PARTIES, quorum=2, seed=2)
    first = (await gathering.round()).cohort
    # They pass the check of the turn, then doze until the next attempt has been drawn.
    stores = gathering.federation
    slow = {
        slot: Slow(stores.documents, "insert", lambda kind, *_: kind == "updates") for slot in first
    }
    late = [
        asyncio.create_task(gathering.upload(slot, service=stores.coordinator(documents=documents)))
        for slot, documents in slow.items()
    ]
    for documents in slow.values():
        await documents.asleep.wait()
    gathering.federation.clock.now += 61
    await gathering.poll()
    again = await gathering.round()
    assert again.attempt == 2
    for documents in slow.values():
        documents.wake.set()
    await asyncio.gather(*late, return_exceptions=True)
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
