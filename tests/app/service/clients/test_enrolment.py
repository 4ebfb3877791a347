"""Slots, tokens and shards."""

import asyncio

import pytest

from app.service.coordinator import Subscriber
from client_sdk.errors import NotAuthorised, StateConflict
from tests.support.federation import BOTH_STORES
from tests.support.some import some


async def test_a_retry_with_the_same_key_gets_the_same_slot_and_token(federation):
    experiment, key = await federation.create()
    api = federation.admin.using(key)
    first = await api.subscribe(experiment, "k" * 40)
    assert await api.subscribe(experiment, "k" * 40) == first
    assert (await federation.admin.experiment(experiment)).enrolled == 1


async def test_the_shard_comes_with_the_subscription_where_it_is_asked_for(federation):
    experiment, key = await federation.create()
    api = federation.admin.using(key)
    without = await api.subscribe(experiment, "k" * 40)
    assert without.shard is None
    joined = await api.subscribe(experiment, "k" * 40, shard=True)
    assert joined.model_copy(update={"shard": None}) == without
    assert joined.shard == await api.using(joined.token).shard(experiment)
    assert len(joined.shard.indices) == joined.shard_size


@BOTH_STORES
async def test_copies_of_one_request_at_once_take_one_slot(federation):
    experiment, key = await federation.create()
    api = federation.admin.using(key)
    answers = await asyncio.gather(*(api.subscribe(experiment, "k" * 40) for _ in range(10)))
    assert len({a.client_id for a in answers}) == 1
    assert (await federation.admin.experiment(experiment)).enrolled == 1


@BOTH_STORES
async def test_a_crowd_gets_each_slot_once_and_the_rest_are_told(federation):
    experiment, key = await federation.create(clients=10)
    others = [federation.coordinator(), federation.coordinator()]

    async def join(n):
        request = Subscriber(client_key=f"{n:04d}" * 10)
        return await others[n % 2].enrolment.subscribe(experiment, key, request)

    results = await asyncio.gather(*(join(n) for n in range(15)), return_exceptions=True)
    enrolled = [r for r in results if not isinstance(r, Exception)]
    assert len(enrolled) == len({r.client_id for r in enrolled}) == 10
    assert {type(r).__name__ for r in results if isinstance(r, Exception)} <= {
        "ExperimentFull",
        "OutOfTurn",
    }


async def test_shards_are_disjoint_and_cover_the_set(federation):
    _, members = await federation.start(dataset_size=41)
    shards = [await m.api.shard(m.experiment_id) for m in members.values()]
    assert sorted(i for s in shards for i in s.indices) == list(range(41))
    assert {len(s.indices) for s in shards} == {10, 11}


async def test_full_is_said_before_and_after_the_start(federation):
    experiment, key = await federation.create()
    for n in range(4):
        await federation.enrol(experiment, key, n)
    with pytest.raises(StateConflict) as caught:
        await federation.enrol(experiment, key, 99)
    assert caught.value.code == "experiment-full"


async def test_nobody_enrols_before_the_initial_model_is_there(federation):
    from tests.support.federation import config

    made = await federation.admin.create_experiment("x", config(), "early-bird")
    with pytest.raises(StateConflict, match="initial model has not been uploaded"):
        await federation.enrol(made.id, made.enrolment_key, 0)


async def test_keys_open_only_their_own_door(federation):
    one, key = await federation.create()
    other, other_key = await federation.create(rounds=5)
    member = await federation.enrol(one, key, 0)
    token = member.api.connection.key
    with pytest.raises(NotAuthorised):
        await federation.enrol(one, other_key, 1)
    for wrong in (token, token + "x", "0.tok_nonsense", "99.tok_x", key, other_key):
        with pytest.raises(NotAuthorised):
            await federation.admin.using(wrong).status(other)
    with pytest.raises(NotAuthorised):
        await federation.admin.using(key).stop_experiment(one)


async def test_secrets_are_not_in_the_store(federation):
    experiment, key = await federation.create()
    member = await federation.enrol(experiment, key, 0)
    secret = member.api.connection.key.split("tok_")[1]
    for kind in ("experiments", "clients"):
        for document in some(await federation.documents.scan(kind, "")):
            text = str(document)
            assert secret not in text
            assert key.removeprefix("enrol_") not in text
