"""Participants that hide single examples: what leaves them, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client_sdk.data.data import Arrays
from client_sdk.engines.batched import Batched
from client_sdk.engines.in_line import InLine
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.errors import DataError, TrainingFailed
from client_sdk.memory.memory import Memory
from client_sdk.participant import Participant
from client_sdk.task import weights_file
from client_sdk.task.torch_task import TorchTask
from client_sdk.tools.verify import verify
from client_sdk.trust.agreed import task_fault
from client_sdk.trust.limits import Limits
from client_sdk.trust.offer import read_offer
from serverless_fl.privacy.examples import EXAMPLE_EPSILON, NoisySteps, epsilon_of_steps
from tests.support.federation import key_of
from tests.support.masked import MASKED, Drifting, enrolled

PRIVACY = {"name": "dp-sgd", "noise_multiplier": 2.0, "clip_norm": 1.0, "delta": 1e-3}
SETTINGS = {"privacy": PRIVACY, "dataset_size": 80, "clients": 2, "clients_per_round": 2}
TRAINING = {"batch_size": 9, "local_epochs": 1, "learning_rate": 0.5}
STEPS = NoisySteps(rate=0.25, noise_multiplier=2.0, steps=4)  # of 36 of 40 examples


class Private(Drifting):
    """Trains as it likes, and says that it was private."""

    async def train(self, client_id, indices, data, task):
        found = await super().train(client_id, indices, data, task)
        return replace(found, spent=STEPS)


async def joined(federation, trainer, count=2, memory=None, **options):
    experiment_id, key = await federation.create(**SETTINGS | TRAINING)
    found = []
    for number in range(count):
        one = Participant(
            *(federation.admin, experiment_id, key_of(number), trainer),
            memory=Memory(memory / f"{number}" if memory else None),
            **options,
        )
        await one.enrol(key)
        found.append(one)
    return experiment_id, found


async def test_an_update_has_its_epsilon_in_place_of_metrics(federation, tmp_path):
    experiment_id, clients = await joined(federation, Private(), memory=tmp_path)
    for client in clients:
        assert (await client.turn()).trained
    view = await federation.admin.round(experiment_id, 1)
    spent = epsilon_of_steps([STEPS], 1e-3)
    assert [update.metrics for update in view.updates] == [{EXAMPLE_EPSILON: spent}] * 2
    assert (tmp_path / "0.ledger").exists()


async def test_max_epsilon_ends_the_client_before_it_trains(federation):
    trainer = Private()
    most = (epsilon_of_steps([STEPS], 1e-3) + epsilon_of_steps([STEPS] * 2, 1e-3)) / 2
    _, (careful, other) = await joined(federation, trainer, max_epsilon=most)
    assert (await careful.turn()).trained
    assert (await other.turn()).trained
    with pytest.raises(DataError, match="Another round would raise the epsilon of this client's"):
        await careful.turn()
    assert trainer.trained == 2


async def test_a_trainer_that_is_not_private_sends_nothing(federation):
    experiment_id, (client, _) = await joined(federation, Drifting())
    with pytest.raises(TrainingFailed, match="does not say what its training has spent"):
        await client.turn()
    assert not (await federation.admin.round(experiment_id, 1)).updates


async def test_the_last_model_is_measured_here_alone(federation):
    class Measuring(Private):
        async def evaluate(self, client_id, indices, weights, seed):
            from client_sdk.task.task import Evaluation

            return Evaluation({"accuracy": 0.5}, 4)

    told = []
    experiment_id, clients = await joined(federation, Measuring(), on_event=told.append)
    for _ in range(3):
        for client in clients:
            await client.turn()
    assert (await federation.admin.experiment(experiment_id)).state == "completed"
    shown = {event.message for event in told if event.kind == "evaluated"}
    assert shown == {"accuracy 50.00% of 4 held-out examples"}
    assert not (await federation.admin.experiment(experiment_id)).evaluations


async def test_masked_updates_have_their_epsilon_alone(federation):
    settings = MASKED | {"privacy": PRIVACY, "rounds": 1, "dataset_size": 160} | TRAINING
    settings["masked_metrics"] = f"accuracy_before,{EXAMPLE_EPSILON}"
    experiment_id, key = await federation.create(**settings)
    clients = await enrolled(federation, experiment_id, key, Private(), 4)
    for _ in range(6):
        for client in clients:
            await client.turn()
    view = await federation.admin.round(experiment_id, 1)
    assert view.state == "closed"
    assert view.metrics.keys() == {EXAMPLE_EPSILON}


async def test_the_offer_says_what_leaves_a_client(federation):
    experiment_id, _ = await federation.create(**SETTINGS)
    offer = await read_offer(federation.admin, experiment_id)
    assert "the epsilon that its examples have cost; each client makes its updates" in offer.privacy
    assert Limits(max_epsilon=1.0).fault(offer.view) is None  # its ledger decides


async def test_a_task_that_leaves_the_noise_out_is_refused(federation):
    """A coordinator that shows privacy in the offer may ask for less afterwards."""
    experiment_id, (client, _) = await joined(federation, Private())
    offer = await read_offer(federation.admin, experiment_id)
    task = await client._client.status(experiment_id)
    assert task_fault(offer.config, task) is None
    weaker = task.privacy.model_copy(
        update={"privacy": task.privacy.privacy.model_copy(update={"noise_multiplier": 0.1})}
    )
    assert "privacy is" in task_fault(offer.config, task.model_copy(update={"privacy": weaker}))
    bare = task.model_copy(update={"privacy": None})
    assert "does not ask for the noise of privacy dp-sgd" in task_fault(offer.config, bare)
    assert "does not ask for its noise" in Limits(max_epsilon=9.0).epsilon_fault(offer.view)


@pytest.mark.parametrize("engine", [InLine, Batched])
async def test_a_federation_learns_from_examples_that_it_hides(federation, engine):
    pytest.importorskip("opacus", reason="the extra dp is not installed")
    from torch import nn

    draw = np.random.default_rng(0)
    x = draw.normal(size=(400, 2)).astype(np.float32)
    columns = Arrays(x, (x @ [1, -1] > 0).astype(np.int64))
    task = TorchTask(lambda: nn.Linear(2, 2), name="halves")
    initial = weights_file.write(task.initial(0))
    experiment_id, key = await federation.create(
        initial, **SETTINGS | TRAINING | {"dataset_size": 400, "batch_size": 45}
    )
    with LocalTrainer(task, columns, engine()) as trainer:
        clients = []
        for number in range(2):
            client = Participant(federation.admin, experiment_id, key_of(number), trainer)
            await client.enrol(key)
            clients.append(client)
        for _ in range(3):
            for client in clients:
                await client.turn()
        if engine is Batched:
            assert "takes the gradient of each example" in trainer.engine.description
    experiment = await federation.admin.experiment(experiment_id)
    assert experiment.state == "completed"
    model = await federation.admin.download_model(experiment_id, 2, experiment.part_bytes)
    assert task.evaluate(weights_file.read(model), columns)["accuracy"] > 0.8
    view = await federation.admin.round(experiment_id, 2)
    once = NoisySteps(rate=0.25, noise_multiplier=2.0, steps=4)
    for update in view.updates:
        assert update.metrics == {EXAMPLE_EPSILON: epsilon_of_steps([once] * 2, 1e-3)}
    findings = await verify(federation.admin, experiment_id)
    assert [one.message for one in findings if one.good is False] == []
