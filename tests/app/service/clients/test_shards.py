"""Shards: by the version of the draw that the experiment records, listed or by their rule."""

import asyncio

import pytest

from app.service.clients import enrolment
from client_sdk.errors import BadAnswer, StateConflict
from client_sdk.participant import Participant
from client_sdk.task import shards
from serverless_fl.domain import draws

KEY = "k" * 40


class Untrained:
    async def train(self, client_id, indices, data, task):
        raise AssertionError


async def indices(federation, experiment, key, **options):
    client = Participant(federation.admin, experiment, KEY, Untrained(), **options)
    await client.enrol(key)
    return client._indices


async def make_old(federation, experiment):
    """As a coordinator wrote it that knew one version of the draw."""
    found = await federation.documents.get("experiments", experiment)
    body = {name: value for name, value in found.body.items() if name != "draw_version"}
    assert await federation.documents.replace("experiments", experiment, found.revision, body)


async def test_a_new_experiment_records_the_version_and_an_old_one_keeps_its_draws(federation):
    experiment, key = await federation.create(dataset_size=400)
    repo = federation.coordinator().context.repo
    assert (await repo.experiment(experiment)).draw_version == draws.VERSION == 2
    first = await indices(federation, experiment, key)
    assert first == draws.shard(0, 400, 4, 0, version=2)
    await make_old(federation, experiment)
    federation.app.state.coordinator = federation.coordinator()
    old = await indices(federation, experiment, key)
    assert old == draws.shard(0, 400, 4, 0, version=1) != first


@pytest.mark.parametrize("version", [1, 2])
async def test_a_long_shard_is_not_listed_but_computed_to_the_same(
    federation, monkeypatch, version
):
    experiment, key = await federation.create(dataset_size=400)
    if version == 1:
        await make_old(federation, experiment)
        federation.app.state.coordinator = federation.coordinator()
    listed = await indices(federation, experiment, key)
    monkeypatch.setattr(enrolment, "LISTED_AT_ONCE", 99)
    api = federation.admin.using(key)
    joined = await api.subscribe(experiment, KEY, shard=True)
    assert joined.shard is None
    assert joined.rule.version == version
    assert await indices(federation, experiment, key) == listed
    # An SDK that knows no rules asks for the list.
    shard = await api.using(joined.token).shard(experiment)
    assert shard.indices == listed


async def test_a_client_asks_for_the_list_where_it_does_not_know_the_rule(federation, monkeypatch):
    experiment, key = await federation.create(dataset_size=400)
    listed = await indices(federation, experiment, key)
    monkeypatch.setattr(enrolment, "LISTED_AT_ONCE", 99)
    monkeypatch.setattr(shards.draws, "VERSION", 1)
    assert await indices(federation, experiment, key) == listed


async def test_what_is_too_long_to_be_listed_is_a_sentence(federation, monkeypatch):
    experiment, key = await federation.create(dataset_size=400)
    monkeypatch.setattr(enrolment, "LISTED", 99)
    api = federation.admin.using(key)
    joined = await api.subscribe(experiment, KEY)
    with pytest.raises(StateConflict, match="100 indices are more than the 99") as caught:
        await api.using(joined.token).shard(experiment)
    assert caught.value.code == "shard-too-long"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset_size": 500}, "shares out 500 examples"),
        ({"slot": 7}, "names none"),
        ({"slot": 4}, "names none"),
        ({"clients": 401}, "names none"),
    ],
)
async def test_a_rule_that_names_no_shard_is_not_followed(federation, changes, words):
    experiment, key = await federation.create(dataset_size=400)
    joined = await federation.admin.using(key).subscribe(experiment, KEY)
    rule = joined.rule.model_copy(update=changes)
    with pytest.raises(BadAnswer, match=words):
        shards.require_rule(rule, 400)


async def test_a_rule_at_its_bounds_is_followed(federation, monkeypatch):
    experiment, key = await federation.create(dataset_size=400)
    rule = (await federation.admin.using(key).subscribe(experiment, KEY)).rule
    monkeypatch.setattr(shards, "MAX_INDICES", 100)
    shards.require_rule(rule.model_copy(update={"slot": rule.clients - 1}), 400)
    shards.require_rule(rule.model_copy(update={"clients": 400}), 400)  # one example each
    monkeypatch.setattr(shards, "MAX_INDICES", 99)
    with pytest.raises(BadAnswer, match="100 examples; this version takes up to 99"):
        shards.require_rule(rule, 400)


async def test_a_rule_for_more_than_memory_is_not_followed(federation):
    experiment, key = await federation.create(dataset_size=400)
    joined = await federation.admin.using(key).subscribe(experiment, KEY)
    rule = joined.rule.model_copy(update={"dataset_size": 10**9, "clients": 2})
    with pytest.raises(BadAnswer, match="500000000 examples"):
        shards.require_rule(rule, None)


async def test_others_are_answered_while_a_long_shard_is_drawn(federation, monkeypatch):
    experiment, key = await federation.create()
    loop, going, drawn = asyncio.get_running_loop(), asyncio.Event(), draws.shard

    def slow(*arguments):
        # Only a loop that is free can set it.
        asyncio.run_coroutine_threadsafe(_set(going), loop).result(timeout=10)
        return drawn(*arguments)

    monkeypatch.setattr(draws, "shard", slow)
    joined = await federation.admin.using(key).subscribe(experiment, KEY, shard=True)
    assert going.is_set()
    assert len(joined.shard.indices) == joined.shard_size


async def _set(event):
    event.set()
