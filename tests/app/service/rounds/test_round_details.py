"""Details of rounds that are easily lost: who is drawn again, what is told, what counts."""

import asyncio
import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from app.service.clients import long_poll
from app.store.port import DirectBlobs, SignedRequest
from client_sdk.errors import RequestRefused
from serverless_fl.aggregation.mean import WeightedMean
from serverless_fl.aggregation.strategy import MAX_WEIGHT
from serverless_fl.domain.errors import PartsMissing
from serverless_fl.domain.records import UpdateCommit
from serverless_fl.weights.check import MAX_F64
from tests.support.federation import value_of, weights


async def test_in_another_attempt_everybody_is_told_its_number_and_its_deadline(federation):
    """What one process has told before is of the first attempt."""
    experiment, members = await federation.start(quorum=2, clients=3)
    first = await federation.cohort(experiment)
    before = [await members[client].status() for client in first]
    await members[first[0]].upload(1, 1.0)
    federation.clock.now += 61
    (fresh,) = (await federation.admin.round(experiment, 1)).missing
    told = await members[fresh].status()
    assert (told.action, told.attempt, told.seconds_left) == ("train", 2, 60)
    assert [b.attempt for b in before] == [1, 1]
    assert (told.deadline - before[0].deadline).total_seconds() == 61
    federation.clock.now += 10
    assert (await members[fresh].status()).seconds_left == 50


async def test_a_refused_client_is_not_drawn_again_for_the_retry_though_nobody_else_is_left(
    federation,
):
    experiment, members = await federation.start(clients=2, quorum=2, max_attempts=2)
    first, second = await federation.cohort(experiment)
    await members[first].upload(1, 1.0)
    with pytest.raises(RequestRefused):
        await members[second].upload(1, float("nan"))
    shown = await federation.admin.experiment(experiment)
    # It would train in vain once more. Without it the retry has nobody to wait for.
    assert shown.state == "failed"
    assert shown.current_round.cohort == [first]
    assert [a.cohort for a in shown.current_round.earlier_attempts] == [[first, second]]
    assert "1 of the 2 updates that it needs, in 2 attempts" in shown.reason


async def test_an_absent_client_is_drawn_again_where_nobody_else_is_left(federation):
    experiment, members = await federation.start(clients=2, quorum=2)
    first, second = await federation.cohort(experiment)
    await members[first].upload(1, 1.0)
    federation.clock.now += 61
    assert await federation.cohort(experiment) == [first, second]


@pytest.mark.parametrize(("cohort", "quorum"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (7, 4)])
async def test_the_default_quorum_is_half_of_the_cohort_rounded_up(federation, cohort, quorum):
    settings = {"clients": cohort, "clients_per_round": cohort, "rounds": 1, "max_attempts": 1}
    for reported, state in ((quorum, "completed"), (quorum - 1, "failed")):
        experiment, members = await federation.start(**settings, seed=reported)
        for member in list(members.values())[:reported]:
            await member.upload(1, 1.0, 1)
        federation.clock.now += 61
        assert (await federation.admin.experiment(experiment)).state == state, reported


# Norms and numbers


async def test_a_norm_that_equals_its_bound_is_within_it(federation):
    initial = weights(0, more=np.zeros(2, np.float32))
    at_it = weights(1, more=np.array([3, 1], np.float32))  # 6 * 1 + 9 + 1 = 16
    beyond = weights(1, more=np.array([3, 1.001], np.float32))
    settings = {"max_update_norm": 4.0, "norm_action": "reject", "clients": 2, "rounds": 1}
    experiment, members = await federation.start(initial=initial, **settings)
    first, second = members.values()
    await first.upload_bytes(1, at_it)
    with pytest.raises(RequestRefused, match="at most 4"):
        await second.upload_bytes(1, beyond)
    (update,) = (await federation.admin.round(experiment, 1)).updates
    assert (update.norm, update.scale) == (4.0, 1.0)


async def test_doubles_whose_weighted_sum_could_overflow_are_refused_and_others_are_not(federation):
    def doubles(value):
        return safetensors.numpy.save({"d": np.array([value, -value, 1.0])})

    experiment, members = await federation.start(initial=doubles(0.0), clients=2, rounds=1)
    first, second = members.values()
    for value in (math.nextafter(MAX_F64, math.inf), 1e308, -1e308):
        with pytest.raises(RequestRefused, match="weighted sum could overflow") as refused:
            await first.upload_bytes(1, doubles(value))
        assert refused.value.code == "non-finite"
    for member in (first, second):
        await member.upload_bytes(1, doubles(MAX_F64))
    mean = safetensors.numpy.load(await federation.admin.download_model(experiment, 1))["d"]
    np.testing.assert_array_equal(mean, [MAX_F64, -MAX_F64, 1.0])


def test_the_largest_doubles_of_the_most_examples_have_a_finite_mean():
    average = WeightedMean(1)
    for _ in range(2):
        average.add([np.array([MAX_F64])], MAX_WEIGHT // 2)
    assert average.result() == [MAX_F64]


# Weights that clients bring past the coordinator


class Direct:
    """A store of weights that clients write to, and that checks nothing."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def put(self, key, data):
        await self._inner.put(key, data)

    async def get(self, key):
        return await self._inner.get(key)

    async def sizes(self, prefix):
        return await self._inner.sizes(prefix)

    async def delete(self, prefix):
        await self._inner.delete(prefix)

    async def sign_put(self, key, sha256, size):
        return SignedRequest("PUT", f"https://bucket/{key}", {}, 60)

    async def sign_get(self, key):
        return SignedRequest("GET", f"https://bucket/{key}", {}, 60)


@pytest.mark.parametrize("parts", [1, 2])
async def test_what_a_client_brought_past_the_coordinator_is_read_before_it_is_accepted(
    federation, parts
):
    """Other weights, sound ones, lie under the digests that the client commits."""
    experiment, _ = await federation.start()
    cohort = await federation.cohort(experiment)
    service = federation.coordinator(blobs=Direct(federation.blobs))
    assert isinstance(service.context.blobs, DirectBlobs)
    said, other = weights(1.0), weights(9.0)
    cut = len(said) if parts == 1 else 40
    pieces = [piece for piece in (said[:cut], said[cut:]) if piece]
    lies = [piece for piece in (other[:cut], other[cut:]) if piece]
    digests = [hashlib.sha256(piece).hexdigest() for piece in pieces]
    slot = int(cohort[0][7:])
    client = await service.context.repo.client(experiment, slot)
    for number, (digest, lie) in enumerate(zip(digests, lies, strict=True)):
        key = f"uploads/{experiment}/0000001/{slot:07d}/{number:05d}-{digest}"
        await federation.blobs.put(key, lie)
    sha = hashlib.sha256(said).hexdigest()
    commit = UpdateCommit(sha256=sha, parts=digests, num_examples=10)
    with pytest.raises(PartsMissing, match="holds bytes of another SHA-256"):
        await service.updates.commit(client, 1, commit)
    assert (await federation.admin.round(experiment, 1)).reported == []
    # Once the right bytes lie there, the same commit is accepted.
    for number, (digest, piece) in enumerate(zip(digests, pieces, strict=True)):
        key = f"uploads/{experiment}/0000001/{slot:07d}/{number:05d}-{digest}"
        await federation.blobs.delete(key)
        await federation.blobs.put(key, piece)
    await service.updates.commit(client, 1, commit)


# Polls that are held


async def test_when_nobody_waits_any_more_nobody_looks_out(federation, monkeypatch):
    monkeypatch.setattr(long_poll, "CHECK_SECONDS", 0.001)
    limits = replace(federation.limits, hold_seconds=20.0)
    service = federation.coordinator(limits=limits)
    experiment, _ = await federation.start()
    seen = long_poll.state_of(*await service.rounds.advance(experiment))
    polls = [asyncio.create_task(service.long_polls.wait(experiment, seen, 20)) for _ in range(2)]
    while service.long_polls.waiting < 2:
        await asyncio.sleep(0)
    (watcher,) = service.long_polls._watchers.values()
    polls[0].cancel()
    await asyncio.gather(polls[0], return_exceptions=True)
    assert not watcher.task.done()  # somebody waits still
    polls[1].cancel()
    await asyncio.gather(polls[1], return_exceptions=True)
    async with asyncio.timeout(10):
        await asyncio.gather(watcher.task, return_exceptions=True)
    assert not service.long_polls._watchers
    looks = 0

    async def counted(*_):
        nonlocal looks
        looks += 1

    monkeypatch.setattr(service.rounds, "advance", counted)
    await asyncio.sleep(0.05)
    assert looks == 0


async def test_the_metrics_of_a_round_are_of_what_was_accepted(federation):
    experiment, members = await federation.start(rounds=1, quorum=1)
    cohort = await federation.cohort(experiment)
    await members[cohort[0]].upload(1, 4.0, 1, accuracy_before=0.25)
    federation.clock.now += 61
    shown = await federation.admin.experiment(experiment)
    assert shown.history[0].metrics == {"accuracy_before": 0.25}
    assert value_of(await federation.admin.download_model(experiment)) == 4.0
