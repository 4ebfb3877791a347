"""Clients that vanish, are slow, or all go: the round does what its settings say, and no more."""

import asyncio
import hashlib
from itertools import pairwise

import pytest

from client_sdk.errors import StateConflict
from tests.support.federation import value_of, weights
from tests.support.plain_http import bearer
from tests.support.some import some


@pytest.mark.parametrize("moment", ["after the assignment", "after the download", "in mid-upload"])
async def test_a_client_that_vanishes_is_not_waited_for_beyond_the_deadline(federation, moment):
    experiment, members = await federation.start(quorum=1)
    gone, there = await federation.cohort(experiment)
    task = await members[gone].status()
    assert task.action == "train"
    if moment != "after the assignment":
        await members[gone].api.download_model(experiment, task.base_version)
    if moment == "in mid-upload":
        data = weights(9.0)[:40]
        put = await federation.http.put(
            f"/v1/experiments/{experiment}/rounds/1/update/parts/0",
            params={"sha256": hashlib.sha256(data).hexdigest()},
            content=data,
            headers=bearer(members[gone].token),
        )
        assert put.status_code == 200
    await members[there].upload(1, 3.0)
    federation.clock.now += 60
    round_ = await federation.admin.round(experiment, 1)
    assert (round_.state, round_.reported, round_.missing) == ("closed", [there], [gone])
    assert value_of(await federation.admin.download_model(experiment, 1)) == 3.0
    assert await federation.blobs.sizes(f"uploads/{experiment}/0000001/") == {}
    with pytest.raises(StateConflict):  # it comes back, too late
        await members[gone].upload(1, 9.0)
    assert (await members[gone].status()).round == 2


async def test_three_of_ten_too_slow_cost_their_updates_and_nothing_else(federation):
    experiment, members = await federation.start(
        clients=10, clients_per_round=10, rounds=3, dataset_size=100
    )
    for number in (1, 2, 3):
        cohort = await federation.cohort(experiment)
        slow, quick = cohort[:3], cohort[3:]
        await asyncio.gather(*(members[c].upload(number, float(number)) for c in quick))
        federation.clock.now += 60
        await members[quick[0]].status()
        results = await asyncio.gather(
            *(members[c].upload(number, 99.0) for c in slow), return_exceptions=True
        )
        assert all(isinstance(r, StateConflict) for r in some(results))
        round_ = await federation.admin.round(experiment, number)
        assert (round_.state, round_.reported, round_.missing) == ("closed", quick, slow)
        model = await federation.admin.download_model(experiment, number)
        assert value_of(model) == float(number)


async def test_when_all_are_gone_it_tries_again_then_fails_and_keeps_its_last_good_model(
    federation,
):
    experiment, members = await federation.start(
        clients=8, dataset_size=80, rounds=3, max_attempts=3
    )
    for client in await federation.cohort(experiment):
        await members[client].upload(1, 5.0)
    cohorts = []
    for attempt in (1, 2, 3):
        round_ = await federation.admin.round(experiment, 2)
        assert (round_.attempt, round_.state) == (attempt, "collecting")
        cohorts.append(round_.cohort)
        federation.clock.now += 60
    shown = await federation.admin.experiment(experiment)
    assert shown.state == "failed"
    assert "in 3 attempts. Missing: " in shown.reason
    for earlier, later in some(pairwise(cohorts)):
        assert not set(earlier) & set(later)  # those who were absent are drawn last
    assert value_of(await federation.admin.download_model(experiment)) == 5.0
    assert await federation.blobs.sizes(f"uploads/{experiment}/") == {}


async def test_a_client_that_starts_again_goes_on_as_itself(federation):
    experiment, key = await federation.create(min_clients=2)
    first = [await federation.enrol(experiment, key, n) for n in range(2)]
    again = [await federation.enrol(experiment, key, n) for n in range(2)]
    assert [m.id for m in again] == [m.id for m in first]
    assert (await federation.admin.experiment(experiment)).enrolled == 2
    receipt = await first[0].upload(1, 1.0)
    assert await again[0].upload(1, 1.0) == receipt  # the same client: the same update stands
