"""Pinned identities end to end, in process: what a coordinator that lies gets, and who refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client_sdk.errors import DataError, StateConflict
from client_sdk.participant import Participant
from client_sdk.tools.verify import verify
from client_sdk.trust.offer import read_offer
from serverless_fl.domain.round import RoundState
from serverless_fl.privacy.secure import agreement
from serverless_fl.privacy.secure.identity import Identity, Pins
from serverless_fl.wire.identity import Proof
from serverless_fl.wire.masking import PhaseConfirmation, PhaseKeys, ProvenKeys
from tests.support.federation import key_of
from tests.support.masked import MASKED, Drifting, enrolled, take_turns

IDENTITIES = [Identity.new() for _ in range(4)]
PINS = Pins({each.fingerprint: f"hospital {n}" for n, each in enumerate(IDENTITIES)})
ALL = {n: {"identity": each, "pins": PINS} for n, each in enumerate(IDENTITIES)}


async def begin(federation, told=None, options=ALL, **changes):
    settings = MASKED | {"rounds": 1, "max_attempts": 1} | changes
    experiment_id, key = await federation.create(**settings)
    clients = await enrolled(
        federation, experiment_id, key, Drifting(), 4, told=told, options=options
    )
    return experiment_id, clients


async def until(federation, experiment_id, clients, state):
    """Let clients take turns until the first round is in a state."""
    while (await federation.admin.round(experiment_id, 1)).state != state:
        for client in clients:
            if (await federation.admin.round(experiment_id, 1)).state != state:
                await client.turn()


def refusals(told):
    return {event.client_id: event.message for event in told if event.kind == "refused"}


async def test_pinned_parties_make_a_model_whoever_is_lost(federation):
    experiment_id, clients = await begin(federation, keep_updates=1)
    done = await take_turns(federation, clients, {2: "collecting"})
    assert done.state == "completed"
    findings = await verify(federation.admin, experiment_id)
    assert all(found.good for found in findings), findings


async def test_parties_with_and_without_identities_take_part_together(federation):
    """Who pins nobody asks for no signature, and gets the same sum."""
    some = {0: {"identity": IDENTITIES[0]}, 1: {"identity": IDENTITIES[1]}}
    _, clients = await begin(federation, options=some)
    assert (await take_turns(federation, clients)).state == "completed"


async def test_a_coordinator_that_puts_itself_between_gets_no_secret(federation):
    """It gives client-01 keys of its own: every other party refuses, and shares nothing."""
    told = []
    experiment_id, clients = await begin(federation, told)
    await until(federation, experiment_id, clients, RoundState.SHARING)
    (found,) = [
        each for each in await federation.documents.scan("phase_keys", "") if each.body["slot"] == 1
    ]
    mine = agreement.public_key(agreement.new_secret()).hex()
    swapped = found.body | {"mask_key": mine}
    assert await federation.documents.replace("phase_keys", found.key, found.revision, swapped)
    for client in clients:
        await client.turn()
    assert set(refusals(told)) == {f"client-0{n}" for n in range(4)}
    assert refusals(told)["client-00"] == (
        "The identity of client-01 has not signed these keys for this attempt. "
        "Missing of the pinned parties: hospital 1."
    )
    assert not await federation.documents.scan("phase_boxes", "")


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({}, "client-03 has not signed its keys: it has no identity."),
        ({"identity": Identity.new()}, "client-03 has an identity that is not pinned: "),
        ({"identity": IDENTITIES[0]}, "client-03 is the same party as client-00."),
    ],
    ids=["unsigned", "unknown", "twice"],
)
async def test_a_client_that_is_not_pinned_is_refused_by_all_others(federation, other, says):
    told = []
    _, clients = await begin(federation, told, ALL | {3: other})
    assert (await take_turns(federation, clients)).state == "failed"
    assert sorted(refusals(told)) == ["client-00", "client-01", "client-02"]
    assert refusals(told)["client-00"].startswith(says)
    assert "Missing of the pinned parties: hospital 3." in refusals(told)["client-00"]


async def test_the_coordinator_takes_no_keys_with_a_false_signature(federation):
    """An honest coordinator spares the others the attempt."""
    experiment_id, clients = await begin(federation)
    api = clients[0]._client
    view = await api.masked_round(experiment_id, 1)
    keys = PhaseKeys(
        attempt=1,
        box_key=agreement.public_key(agreement.new_secret()).hex(),
        mask_key=agreement.public_key(agreement.new_secret()).hex(),
    )
    proof = Proof(identity=IDENTITIES[0].fingerprint, signature="0" * 128)
    with pytest.raises(StateConflict) as refused:
        await api.send_keys(experiment_id, 1, ProvenKeys(**keys.model_dump(), proof=proof))
    assert refused.value.code == "not-signed"
    assert view.roster == []


async def test_who_pins_helps_to_open_one_sum_of_a_round(federation):
    """Two sums that differ by one client are that client's update. Others do it again."""
    for pinned in (True, False):
        told = []
        options = ALL if pinned else None
        changes = {"max_attempts": 2, "seed": int(pinned)}
        experiment_id, clients = await begin(federation, told, options, **changes)
        await until(federation, experiment_id, clients, RoundState.UNMASKING)
        for client in clients[:2]:
            await client.turn()
        federation.clock.now += 10**6  # the other two are lost, and the attempt ends
        await clients[0].turn()
        await clients[1].turn()
        round_ = await federation.admin.round(experiment_id, 1)
        assert (round_.attempt, round_.state) == (2, RoundState.ADVERTISING)
        says = "helps to open no second one"
        assert [says in text for text in refusals(told).values()] == [True] * (2 * pinned)


async def test_parties_open_no_sum_whose_list_too_few_have_signed(federation):
    """A coordinator that shows parties different lists has too few signatures under each."""
    told = []
    experiment_id, clients = await begin(federation, told)
    await until(federation, experiment_id, clients, RoundState.UNMASKING)
    found = await federation.documents.scan("phase_confirmations", "")
    assert len(found) == 4
    other = found[0].body["signature"]
    for document in found[2:]:
        body = document.body | {"signature": other}
        key = document.key, document.revision, body
        assert await federation.documents.replace("phase_confirmations", *key)
    for client in clients:
        await client.turn()
    assert set(refusals(told).values()) == {
        "2 parties have signed the list of those in the sum; this client wants 3."
    }
    assert not await federation.documents.scan("phase_answers", "")


async def test_a_party_signs_one_list_in_an_attempt(federation):
    """The list that it is shown afterwards must be the same."""
    told = []
    experiment_id, clients = await begin(federation, told)
    await until(federation, experiment_id, clients, RoundState.CONFIRMING)
    await clients[0].turn()
    (round_,) = await federation.documents.scan("rounds", "")
    body = round_.body | {"accepted": [0, 1, 2], "state": "unmasking"}
    assert await federation.documents.replace("rounds", round_.key, round_.revision, body)
    await clients[0].turn()
    assert refusals(told) == {"client-00": "The coordinator names other parties than before."}


@pytest.mark.parametrize("lost", [1, 2])
async def test_parties_that_are_lost_before_they_sign(federation, lost):
    """Three of four suffice; with two the attempt ends, no share is out, and the next one opens."""
    experiment_id, clients = await begin(federation, max_attempts=2)
    await until(federation, experiment_id, clients, RoundState.CONFIRMING)
    for client in clients[lost:]:
        await client.turn()
    federation.clock.now += 10**6
    assert (await take_turns(federation, clients)).state == "completed"
    assert (await federation.admin.round(experiment_id, 1)).attempt == lost


async def test_the_coordinator_takes_no_signature_under_another_list(federation):
    experiment_id, clients = await begin(federation)
    await until(federation, experiment_id, clients, RoundState.CONFIRMING)
    for signature in ("0" * 128, "f" * 128):
        sent = PhaseConfirmation(attempt=1, signature=signature)
        with pytest.raises(StateConflict) as refused:
            await clients[0]._client.send_confirmation(experiment_id, 1, sent)
        assert refused.value.code == "not-signed"


async def test_who_pins_takes_part_under_secure_aggregation_alone(federation):
    plain, members = await federation.start(clients=1, clients_per_round=1)
    alone = Participant(*(federation.admin, plain, key_of(0), Drifting()), pins=PINS)
    alone._client = members["client-00"].api
    with pytest.raises(DataError, match=r"under secure aggregation alone \(pins\)"):
        await alone.turn()


async def test_parties_are_listed_with_the_identities_that_they_enrolled_with(federation):
    """One that has got an identity since is listed with it after its next start."""
    some = {0: {"identity": IDENTITIES[0]}}
    experiment_id, key = await federation.create(**MASKED)
    clients = await enrolled(federation, experiment_id, key, Drifting(), 2, options=some)
    listed = await federation.admin.clients(experiment_id)
    assert [client.identity for client in listed] == [IDENTITIES[0].fingerprint, ""]
    offer = await read_offer(federation.admin, experiment_id)
    assert any(f"({IDENTITIES[0].fingerprint}), client-01" in line for line in offer.lines)
    clients[1]._identity, clients[1]._client = IDENTITIES[1], federation.admin
    await clients[1].enrol(key)
    listed = await federation.admin.clients(experiment_id)
    assert [client.identity for client in listed] == [each.fingerprint for each in IDENTITIES[:2]]


async def test_nobody_enrols_with_the_identity_of_somebody_else(federation):
    experiment_id, key = await federation.create(**MASKED)
    stolen = IDENTITIES[0].enrol(experiment_id, key_of(0))
    for proof in (stolen, IDENTITIES[1].enrol("another", key_of(1))):
        with pytest.raises(StateConflict) as refused:
            await federation.admin.using(key).subscribe(experiment_id, key_of(1), proof=proof)
        assert refused.value.code == "not-signed"
    assert await federation.admin.clients(experiment_id) == []


async def test_what_is_stored_of_a_signature(federation):
    """The certificate comes back as it was sent; without an identity there is nothing."""
    certified = replace(IDENTITIES[0], certificate="-----BEGIN CERTIFICATE-----\n")
    experiment_id, clients = await begin(federation, options={0: {"identity": certified}})
    await until(federation, experiment_id, clients, RoundState.SHARING)
    roster = (await clients[1]._client.masked_round(experiment_id, 1)).roster
    assert roster[0].proof.certificate == certified.certificate
    assert roster[0].proof.identity == certified.fingerprint
    assert [member.proof for member in roster[1:]] == [None] * 3
