"""Tasks are compared with the settings that a party has accepted, whichever they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client_sdk.errors import DataError
from client_sdk.participant import Participant
from client_sdk.trust.agreed import task_fault
from client_sdk.trust.offer import read_offer
from serverless_fl.wire.turns import Train
from tests.support.federation import config, key_of
from tests.support.masked import MASKED, Drifting, begin, take_turns

STEPS = {"name": "step", "step_rounds": 1, "step_factor": 0.5}
REJECT = {"max_update_norm": 2.0, "norm_action": "reject"}


async def asked(federation, **changes):
    """The accepted settings, and the task of the first round."""
    experiment_id, members = await federation.start(**changes)
    settings = (await read_offer(federation.admin, experiment_id)).config
    for member in members.values():
        status = await member.status()
        if isinstance(status, Train):
            return settings, status
    raise AssertionError("nobody trains")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"local_epochs": 3, "learning_rate": 0.5, "proximal_mu": 0.1, "batch_size": 8},
        {"strategy": "scaffold", "momentum": 0.0},
        {"strategy": {"name": "fedadam", "beta1": 0.5}},
        {"learning_rate_schedule": STEPS},
        {"update_encoding": "delta-int8", "download_encoding": "float16", **REJECT},
        {"privacy": {"name": "dp-fedavg", "noise_multiplier": 9.0}},
        {"seed": 7, "fine_tune_epochs": 2},
    ],
    ids=str,
)
async def test_an_honest_coordinators_task_is_what_was_accepted(federation, changes):
    assert task_fault(*await asked(federation, **changes)) is None


@pytest.mark.parametrize(
    ("accepted", "said"),
    [
        ({"local_epochs": 2}, "local_epochs is 50 and not 2"),
        ({"learning_rate": 0.25}, "learning_rate is 0.01 and not 0.25"),
        ({"update_encoding": "delta-int8"}, "update_encoding is weights and not delta-int8"),
        ({"secure_aggregation": "pairs"}, "update_encoding is weights and not masked-uint32"),
        ({"download_encoding": "int8"}, "download_encoding is weights and not int8"),
    ],
    ids=str,
)
async def test_a_task_with_other_settings_is_named(federation, accepted, said):
    settings, task = await asked(federation, local_epochs=50, learning_rate=0.01)
    fault = task_fault(replace(settings, **accepted), task)
    assert fault is not None
    assert fault.startswith("The task of round 1 is not what this client has accepted: ")
    assert said in fault


async def test_a_rate_that_depends_on_the_number_of_rounds_may_be_lower_and_not_higher(federation):
    """The admin has raised the number of rounds since the party accepted them."""
    cosine = {"learning_rate_schedule": {"name": "cosine"}, "learning_rate": 0.5}
    settings, task = await asked(federation, rounds=9, **cosine)
    later = task.model_copy(update={"round": 5})
    assert task_fault(replace(settings, rounds=2), later) is None
    fault = task_fault(replace(settings, learning_rate=0.4), task)
    assert "learning_rate is 0.5 and not 0.4" in str(fault)


async def test_another_strategys_half_is_refused(federation):
    _, task = await asked(federation, strategy="scaffold", momentum=0.0)
    settings = config(strategy="feddyn", momentum=0.0).to_config()
    assert "strategy is" in str(task_fault(settings, task))


async def test_a_participant_trains_for_nothing_else_than_it_has_accepted(federation):
    experiment_id, key = await federation.create(clients=1, clients_per_round=1)
    offer = await read_offer(federation.admin, experiment_id)
    trainer = Drifting()
    arguments = federation.admin, experiment_id, key_of(0), trainer
    client = Participant(*arguments, agreed=replace(offer.config, local_epochs=1))
    await client.enrol(key)
    with pytest.raises(DataError, match="is not what this client has accepted: local_epochs is 10"):
        await client.turn()
    assert trainer.trained == 0
    good = Participant(*arguments, agreed=offer.config)
    await good.enrol(key)
    assert (await good.turn()).trained


async def test_a_party_masks_on_no_other_terms_than_it_has_accepted(federation):
    told = []
    experiment_id, clients, _ = await begin(federation, told, rounds=1, max_attempts=1)
    settings = (await read_offer(federation.admin, experiment_id)).config
    for client in clients:
        client._agreed = settings
    clients[3]._agreed = replace(settings, max_weight_change=MASKED["max_weight_change"] * 2)
    assert (await take_turns(federation, clients)).state == "completed"  # by the other three
    refused = {event.client_id: event.message for event in told if event.kind == "refused"}
    assert refused == {
        "client-03": "The round masks updates on other terms than this client has accepted."
    }
