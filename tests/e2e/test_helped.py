"""Secure aggregation with a helper, end to end in process: the model, the losses, the refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from client_sdk.errors import RequestRefused
from client_sdk.tools.verify import verify
from client_sdk.trust.offer import read_offer
from serverless_fl.domain.round import RoundState
from serverless_fl.privacy.secure.agreement import new_secret, public_key
from serverless_fl.privacy.secure.identity import Identity, Pins
from tests.support.helped import HELPED, begin_helped, join_helper
from tests.support.masked import (
    MASKED,
    Drifting,
    enrolled,
    require_mean,
    require_means,
    take_turns,
)


@pytest.mark.parametrize(
    ("fresh_store", "words"), [("sqlite", "uint16"), ("mongo", "uint32")], indirect=["fresh_store"]
)
async def test_the_model_is_the_mean_and_verify_recomputes_it(federation, fresh_store, words):
    near, experiment_id, clients, trainer = await begin_helped(
        federation, await fresh_store(), mask_words=words
    )
    done = await take_turns(federation, clients)
    assert (done.state, done.model_version) == ("completed", 2)
    await require_means(federation, experiment_id, clients, trainer, words)
    round_ = await federation.admin.round(experiment_id, 1)
    assert (round_.attempt, round_.num_examples) == (1, 42)
    expected = np.dot([0, 1, 2, 3], [len(client._indices) for client in clients]) / 42
    assert round_.metrics["loss_before"] == pytest.approx(expected)
    assert trainer.trained == 8
    findings = await verify(federation.admin, experiment_id)
    assert all(found.good for found in findings), findings
    assert any("none of which it shows" in found.message for found in findings)
    assert {status for _, status in near.asked} == {200}


@pytest.mark.parametrize("lost", [(2,), (0, 3)], ids=str)
async def test_clients_that_are_lost(federation, fresh_store, lost):
    """Three of four give their sum; fewer give none, and the helper is not asked."""
    near, experiment_id, clients, trainer = await begin_helped(
        federation, await fresh_store(), rounds=1, max_attempts=1
    )
    done = await take_turns(federation, clients, dict.fromkeys(lost, "collecting"))
    if len(lost) == 1:
        assert done.state == "completed"
        await require_mean(
            federation, experiment_id, clients, trainer, sorted({0, 1, 2, 3} - {*lost})
        )
        return
    assert done.state == "failed"
    assert [path for path, _ in near.asked] == ["/v1/helper"]


async def test_another_attempt_has_other_masks_of_the_same_training(federation, fresh_store):
    """Two of four are late for one attempt; the seals of both attempts differ."""
    _, experiment_id, clients, trainer = await begin_helped(
        federation, await fresh_store(), rounds=1
    )
    for client in clients[:2]:
        await client.turn()
    first = await federation.documents.scan("updates", "")
    federation.clock.now += 100.0
    done = await take_turns(federation, clients)
    assert done.state == "completed"
    assert (await federation.admin.round(experiment_id, 1)).attempt == 2
    stored = {d.body["attempt"]: d.body for d in await federation.documents.scan("updates", "")}
    assert {d.body["seal"] for d in first}.isdisjoint({stored[2]["seal"]})
    await require_mean(federation, experiment_id, clients, trainer, range(4))


async def test_a_helper_that_is_away_delays_the_round_and_costs_no_training(
    federation, fresh_store
):
    near, experiment_id, clients, trainer = await begin_helped(
        federation, await fresh_store(), rounds=1
    )
    near.away = True
    for client in clients:
        await client.turn()
    round_ = await federation.admin.round(experiment_id, 1)
    assert (round_.state, round_.awaited) == (RoundState.UNMASKING, [])
    shown = await federation.admin.experiment(experiment_id)
    assert "the helper is asked for the sum of their masks" in shown.progress
    for _ in range(3):
        federation.clock.now += 1000.0
        assert (await clients[0].turn()).done is None
    near.away = False
    assert (await take_turns(federation, clients)).state == "completed"
    assert trainer.trained == 4
    await require_mean(federation, experiment_id, clients, trainer, range(4))


async def test_a_helper_that_goes_away_within_the_aggregation(federation, fresh_store):
    """It has told the counts; the call gives its lease back, and a later one goes on."""
    near, experiment_id, clients, trainer = await begin_helped(
        federation, await fresh_store(), rounds=1
    )
    exchange = near._exchange

    async def once(method, path, body):
        near.away = len(near.asked) == 2
        return await exchange(method, path, body)

    near._exchange = once
    for client in clients:
        await client.turn()
    assert (await federation.admin.round(experiment_id, 1)).state is RoundState.AGGREGATING
    near._exchange, near.away = exchange, False
    assert (await take_turns(federation, clients)).state == "completed"
    await require_mean(federation, experiment_id, clients, trainer, range(4))


async def test_what_either_operator_holds_of_a_client_is_noise(federation, fresh_store):
    """The coordinator has words and no secret, the helper has the digest of a sum and its key."""
    store = await fresh_store()
    _, experiment_id, clients, _ = await begin_helped(federation, store, rounds=1, keep_updates=1)
    await take_turns(federation, clients)
    data = await federation.admin.download_update(experiment_id, 1, 0)
    words = safetensors.numpy.load(data)["b.weight"]
    assert len(set(words.tolist())) == 7
    held = await store.documents.scan("helper_sums", "")
    assert [document.key for document in held] == [f"{experiment_id}/0000001"]
    assert [set(document.body) for document in held] == [{"digest"}]
    assert await store.documents.keys("updates", "") == []
    secret = (await store.documents.get("helper_keys", "key")).body["secret"]
    for kind in ("experiments", "rounds", "updates"):
        assert secret not in repr(await federation.documents.scan(kind, ""))


async def test_the_helpers_own_minimum_ends_the_attempts_with_its_sentence(federation, fresh_store):
    _, experiment_id, clients, _ = await begin_helped(
        federation, await fresh_store(), rounds=1, max_attempts=2, options={"fewest": 5}
    )
    assert (await take_turns(federation, clients)).state == "failed"
    shown = await federation.admin.experiment(experiment_id)
    assert shown.reason == (
        "The helper did not open the sum of round 1, in 2 attempts. It says: The sum has 4 "
        "updates; its clients and the helper want 5."
    )


async def test_a_lost_file_ends_the_experiment_because_the_helper_opens_one_sum(
    federation, fresh_store
):
    near, experiment_id, clients, _ = await begin_helped(federation, await fresh_store(), rounds=1)
    near.away = True
    for client in clients:
        await client.turn()
    (lost,) = [d for d in await federation.documents.scan("updates", "") if d.body["slot"] == 2]
    await federation.blobs.delete(lost.body["blob"]["prefix"])
    near.away = False
    assert (await take_turns(federation, clients)).state == "failed"
    shown = await federation.admin.experiment(experiment_id)
    assert shown.reason == (
        "Round 1 has no sum, and the helper opens no other one of the round. The file of "
        "client-02's update is gone from the store, or altered."
    )


async def test_an_experiment_with_another_helper_or_none_is_refused(federation, fresh_store):
    other = public_key(new_secret()).hex()
    settings = HELPED | {"helper_key": other, "clients_per_round": 4}
    with pytest.raises(RequestRefused, match="FL_HELPER_URL and FL_HELPER_KEY"):
        await federation.create(**settings)
    near, _ = await join_helper(federation, await fresh_store())
    with pytest.raises(RequestRefused, match="is not the key of this coordinator's helper"):
        await federation.create(**settings)
    near.away = True
    with pytest.raises(RequestRefused, match="The helper did not answer"):
        await federation.create(**settings)


IDENTITIES = [Identity.new() for _ in range(4)]


def pins_with(helper, parties=IDENTITIES):
    names = {each.fingerprint: f"hospital {n}" for n, each in enumerate(parties)}
    return Pins(names, helpers={helper: "operator B"})


async def begin_pinned(federation, store, told, *, of_helper, of_parties=None, **changes):
    """Four parties with identities; `of_helper` are the helper's pins, `of_parties` theirs."""
    _, key = await join_helper(federation, store, pins=of_helper)
    settings = HELPED | {"helper_key": key, "rounds": 1, "max_attempts": 1} | changes
    experiment_id, enrolment = await federation.create(**MASKED | settings)
    pins = of_parties or pins_with(key)
    options = {n: {"identity": each, "pins": pins} for n, each in enumerate(IDENTITIES)}
    clients = await enrolled(
        federation, experiment_id, enrolment, Drifting(), 4, told=told, options=options
    )
    return experiment_id, clients


async def test_pinned_parties_and_a_helper_that_pins_them_make_a_model(federation, fresh_store):
    told = []
    of_helper = pins_with("a" * 64)
    experiment_id, clients = await begin_pinned(
        federation, await fresh_store(), told, of_helper=of_helper, keep_updates=1
    )
    assert (await take_turns(federation, clients, {1: "collecting"})).state == "completed"
    assert [event for event in told if event.kind == "refused"] == []
    findings = await verify(federation.admin, experiment_id)
    assert all(found.good for found in findings), findings


@pytest.mark.parametrize(
    ("of_helper", "said"),
    [
        (None, "takes part with pinned parties alone, and this helper has no pins"),
        (pins_with("a" * 64, IDENTITIES[:3]), "client-03 has an identity that is not pinned"),
    ],
    ids=["no pins", "pins without a party"],
)
async def test_a_helper_that_does_not_know_all_parties_opens_no_sum(
    federation, fresh_store, of_helper, said
):
    experiment_id, clients = await begin_pinned(
        federation, await fresh_store(), [], of_helper=of_helper
    )
    assert (await take_turns(federation, clients)).state == "failed"
    assert said in (await federation.admin.experiment(experiment_id)).reason


async def test_parties_refuse_a_helper_that_they_have_not_pinned(federation, fresh_store):
    """No update leaves them, so no sum is asked for."""
    told = []
    _, clients = await begin_pinned(
        federation, await fresh_store(), told, of_helper=None, of_parties=pins_with("a" * 64)
    )
    assert (await take_turns(federation, clients)).state == "failed"
    refused = {event.client_id: event.message for event in told if event.kind == "refused"}
    assert len(refused) == 4
    assert refused["client-00"].startswith("The round has a helper that is not pinned: ")
    assert await federation.documents.keys("updates", "") == []


async def test_a_party_that_has_accepted_another_helper_or_none_sends_nothing(
    federation, fresh_store
):
    told = []
    _, experiment_id, clients, _ = await begin_helped(
        federation, await fresh_store(), told, rounds=1
    )
    config = (await read_offer(federation.admin, experiment_id)).config
    for client, key in zip(clients, ("a" * 64, ""), strict=False):
        client._agreed = replace(config, helper_key=key)
    for client in clients[:2]:
        await client.turn()
    refused = {event.client_id: event.message for event in told if event.kind == "refused"}
    assert refused["client-00"].endswith(f"this client has accepted the helper {'a' * 64}.")
    assert refused["client-01"].endswith("this client has accepted none.")
    assert await federation.documents.keys("updates", "") == []


async def test_an_offer_names_the_helper_and_its_acceptance_holds_for_the_rounds(
    federation, fresh_store
):
    _, key = await join_helper(federation, await fresh_store())
    experiment_id, enrolment = await federation.create(
        **MASKED | HELPED | {"helper_key": key, "rounds": 1}
    )
    offer = await read_offer(federation.admin, experiment_id)
    assert any(f"together with the helper {key}, another operator's" in x for x in offer.lines)
    options = {0: {"accepted": offer.digest}}
    (client,) = await enrolled(federation, experiment_id, enrolment, Drifting(), 1, options=options)
    assert client._agreed.helper_key == key


async def test_verify_tells_a_helper_that_gives_other_words_than_before(federation, fresh_store):
    store = await fresh_store()
    near, experiment_id, clients, _ = await begin_helped(
        federation, store, rounds=1, keep_updates=1
    )
    await take_turns(federation, clients)
    exchange = near._exchange

    async def other(method, path, body):
        status, data = await exchange(method, path, body)
        return status, bytes(len(data)) if path.endswith("words") else data

    near._exchange = other
    findings = await verify(federation.admin, experiment_id)
    assert not all(found.good for found in findings)
