"""Secure aggregation end to end, in process: the model, the losses, what the store holds."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from app.service.clients import masking
from app.service.secure import phases
from client_sdk.errors import DataError
from client_sdk.participant import Participant
from client_sdk.tools.verify import verify
from client_sdk.trust.limits import Limits
from serverless_fl.privacy.secure import graph
from serverless_fl.privacy.secure.graph import Parameters
from serverless_fl.privacy.secure.unmasking import Sum
from tests.support.federation import key_of
from tests.support.masked import (
    Drifting,
    begin,
    require_mean,
    require_means,
    take_turns,
)
from tests.support.sample import sample

# What is stored is of another size, and not of another kind.
KINDS = [(store, words) for store in ("sqlite", "mongo") for words in ("uint16", "uint32")]


@pytest.mark.parametrize(
    ("fresh_store", "words"), sample(KINDS, KINDS[:3]), indirect=["fresh_store"]
)
async def test_the_model_is_the_mean_and_verify_recomputes_it(federation, words):
    experiment_id, clients, trainer = await begin(federation, mask_words=words)
    done = await take_turns(federation, clients)
    assert (done.state, done.model_version) == ("completed", 2)
    await require_means(federation, experiment_id, clients, trainer, words)
    round_ = await federation.admin.round(experiment_id, 1)
    assert round_.num_examples == 42
    assert {u.num_examples for u in round_.updates} == {1}
    assert not any(u.metrics for u in round_.updates)
    examples = [len(client._indices) for client in clients]
    expected = np.dot([0, 1, 2, 3], examples) / 42
    assert round_.metrics["loss_before"] == pytest.approx(expected)
    findings = await verify(federation.admin, experiment_id)
    assert all(found.good for found in findings), findings
    assert any("none of which it shows" in found.message for found in findings)


@pytest.mark.parametrize("state", ["advertising", "sharing", "collecting", "unmasking"])
async def test_a_client_that_is_lost_in_any_phase(federation, state):
    experiment_id, clients, trainer = await begin(federation, rounds=1)
    done = await take_turns(federation, clients, {2: state})
    assert done.state == "completed"
    slots = range(4) if state == "unmasking" else (0, 1, 3)
    await require_mean(federation, experiment_id, clients, trainer, slots)


@pytest.mark.parametrize("state", ["advertising", "sharing", "collecting", "unmasking"])
async def test_two_lost_of_four_end_each_attempt(federation, state):
    """Nothing is unmasked, and the experiment says why it failed."""
    experiment_id, clients, _ = await begin(federation, rounds=1, max_attempts=2)
    done = await take_turns(federation, clients, {1: state, 2: state})
    assert done.state == "failed"
    shown = await federation.admin.experiment(experiment_id)
    assert shown.current_round.attempt == 2
    assert "2" in shown.reason
    assert "3" in shown.reason
    assert shown.current_round.num_examples == 0


async def test_an_attempt_without_a_quorum_is_followed_by_one_with_new_keys(federation):
    """Two of four are lost while they train, and two others take their place."""
    told = []
    experiment_id, clients, trainer = await begin(
        federation, told, clients=6, rounds=1, dataset_size=66
    )
    shown = await federation.admin.experiment(experiment_id)
    first = [int(c.rpartition("-")[2]) for c in shown.current_round.invited]
    done = await take_turns(federation, clients, dict.fromkeys(first[:2], "collecting"))
    assert done.state == "completed"
    round_ = await federation.admin.round(experiment_id, 1)
    slots = [int(u.client.rpartition("-")[2]) for u in round_.updates]
    assert round_.attempt == 2
    assert not set(slots) & set(first[:2])
    await require_mean(federation, experiment_id, clients, trainer, slots)


async def test_masks_are_taken_off_in_several_steps(federation, monkeypatch):
    """As many masks as a cohort of hundreds leaves take longer than a call has."""
    steps, without = [], Sum.without

    def noted(self, span, sums, streams=slice(None)):
        steps.append(streams)
        return without(self, span, sums, streams)

    monkeypatch.setattr(Sum, "without", noted)
    federation.limits = replace(federation.limits, step_masks=1, step_seconds=0.0)
    federation.app.state.coordinator = federation.coordinator()
    experiment_id, clients, trainer = await begin(federation, rounds=1)
    done = await take_turns(federation, clients, {2: "collecting"})
    assert done.state == "completed"
    await require_mean(federation, experiment_id, clients, trainer, (0, 1, 3))
    # Three clients' own masks, and those that each shares with the lost one.
    assert steps == [slice(n, n + 1) for n in range(6)]


@pytest.mark.parametrize("lost", [(), (2,), (2, 5)], ids=str)
async def test_clients_that_are_not_all_neighbours(federation, monkeypatch, lost):
    """As in a cohort of more than 64: each of nine has six neighbours, and four shares suffice."""
    for module in (graph, phases, masking):
        monkeypatch.setattr(module, "COMPLETE", 3)
    for module in (graph, phases):
        monkeypatch.setattr(module, "parameters", lambda parties: Parameters(6, 4))
    experiment_id, clients, trainer = await begin(
        federation, rounds=1, clients=9, clients_per_round=9, dataset_size=99
    )
    done = await take_turns(federation, clients, dict.fromkeys(lost, "collecting"))
    assert done.state == "completed"
    left = [slot for slot in range(9) if slot not in lost]
    await require_mean(federation, experiment_id, clients, trainer, left)


async def test_what_the_store_holds_of_a_client_is_masked(federation):
    """Before the sum is unmasked there is no seed, and the words of an update are noise."""
    experiment_id, clients, _ = await begin(federation, rounds=1)
    while True:
        for client in clients:
            await client.turn()
        round_ = await federation.admin.round(experiment_id, 1)
        if round_.updates:
            break
    kinds = ("phase_keys", "phase_boxes", "phase_answers")
    stored = [await federation.documents.scan(kind, "") for kind in kinds]
    assert [len(found) for found in stored[:2]] == [4, 4]
    text = repr(stored[:2])
    for client in clients:
        notes = client._masks._begin(1, 1)
        for secret in (notes.seed, notes.mask_secret, notes.box_secret, notes.own_share):
            assert secret
            assert secret not in text
    data = await federation.admin.download_update(experiment_id, 1, 0)
    words = safetensors.numpy.load(data)["b.weight"]
    assert len(set(words.tolist())) == 7


async def test_a_client_that_dies_and_comes_back_goes_on_with_its_notes(federation, tmp_path):
    """Each turn is taken by a new process, with what the last one kept on the disk."""
    experiment_id, clients, trainer = await begin(federation, memory=tmp_path)
    done = None
    while done is None:
        for number, client in enumerate(clients):
            turn = await client.turn()
            done = done or turn.done
            clients[number]._masks_of = None
    assert done.state == "completed"
    await require_mean(federation, experiment_id, clients, trainer, range(4))
    assert hashlib.sha256((tmp_path / "0.masks").read_bytes()).digest()


async def test_a_client_has_a_minimum_of_its_own(federation):
    """It sends no keys' boxes to fewer, and trains for no plain experiment."""
    told = []
    _, clients, _ = await begin(federation, told, rounds=1, max_attempts=1)
    clients[3]._limits = Limits(min_participants=5)
    done = await take_turns(federation, clients)
    assert done.state == "completed"  # by the other three
    refused = [event for event in told if event.kind == "refused"]
    assert [event.client_id for event in refused] == ["client-03"]
    assert refused[0].message == "The roster has 4 parties; this client wants 5."
    plain, members = await federation.start(clients=1, clients_per_round=1)
    alone = Participant(*(federation.admin, plain, key_of(0), Drifting()), min_participants=3)
    alone._client = members["client-00"].api
    with pytest.raises(DataError, match="under secure aggregation alone"):
        await alone.turn()
