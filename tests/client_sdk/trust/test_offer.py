"""What a party sees before it enrols, and the digest that it accepts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client_sdk.errors import DataError
from client_sdk.participant import Participant
from client_sdk.trust.offer import read_offer
from tests.support.federation import key_of
from tests.support.masked import MASKED, Drifting


async def test_an_offer_says_what_there_is_to_know(federation):
    experiment_id, key = await federation.create(**MASKED)
    await federation.enrol(experiment_id, key, 0)
    offer = await read_offer(federation.admin, experiment_id)
    text = "\n".join(offer.lines)
    assert f"Experiment {experiment_id}" in text
    assert "secure_aggregation pairs" in text
    assert "clients_per_round 4" in text
    assert offer.initial in text
    assert "the coordinator sees the sum of a round's updates; no differential privacy" in text
    assert "1 of 4 have enrolled: c0; 4 take part in a round" in text
    assert f"Digest of this offer: {offer.digest}" in text


async def test_what_the_coordinator_sees_without_secure_aggregation_is_said(federation):
    private = {"privacy": {"name": "dp-fedavg", "noise_multiplier": 9.0}, "budget_epsilon": 3.0}
    private["schedule"] = {"name": "synchronous", "grace_seconds": 9.0}
    experiment_id, _ = await federation.create(**private)
    offer = await read_offer(federation.admin, experiment_id)
    assert "schedule synchronous (grace_seconds 9.0)" in offer.lines[1]
    assert offer.privacy == (
        "the coordinator sees each update, its number of examples and its metrics; models are "
        "differentially private for a client (dp-fedavg), up to an epsilon of 3."
    )


async def test_a_digest_covers_the_settings_and_the_model_and_not_who_has_enrolled(federation):
    one, key = await federation.create()
    before = await read_offer(federation.admin, one)
    await federation.enrol(one, key, 0)
    after = await read_offer(federation.admin, one)
    assert after.digest == before.digest
    digests = {before.digest}
    for changes in ({"seed": 1}, {"local_epochs": 3}):
        other, _ = await federation.create(**changes)
        digests.add((await read_offer(federation.admin, other)).digest)
    assert len(digests) == 3
    other = replace(before, initial="0" * 64)
    assert other.digest != before.digest


async def test_a_participant_enrols_in_the_offer_that_was_accepted_alone(federation):
    experiment_id, key = await federation.create()
    offer = await read_offer(federation.admin, experiment_id)
    arguments = federation.admin, experiment_id, key_of(0), Drifting()
    with pytest.raises(DataError, match=f"its digest is {offer.digest}"):
        await Participant(*arguments, accepted="0" * 64).enrol(key)
    assert (await federation.admin.experiment(experiment_id)).enrolled == 0
    await Participant(*arguments, accepted=offer.digest).enrol(key)
    assert (await federation.admin.experiment(experiment_id)).enrolled == 1
