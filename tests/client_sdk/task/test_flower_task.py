"""A Flower client as a task. docs/from-flower.md has a whole one, which tests/examples runs."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch

from client_sdk.data.data import as_data
from client_sdk.errors import BadSettings, TrainingFailed
from client_sdk.task.flower_task import FlowerTask
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import form_of

DATA = as_data((np.arange(6.0), np.arange(6.0)))
SETTINGS = TrainSettings(3, 2, 0.5, proximal_mu=0.25)


class Client:
    """Steps towards the mean of its data; keeps what it was told."""

    told: dict = {}  # noqa: RUF012

    def __init__(self, data):
        self.data = data

    def get_parameters(self, config):
        assert config == {}
        return [np.zeros((2, 1)), np.array(7), np.full(3, random.random(), np.float32)]

    def fit(self, parameters, config):
        Client.told = config
        centre, count, drawn = parameters
        centre += config["learning_rate"] * (self.data.x.mean() - centre)  # in place
        drawn[:] = [random.random(), np.random.random(), torch.rand(()).item()]
        return [centre, count, drawn], len(self.data), {"words": "left out", "steps": 1}

    def evaluate(self, parameters, config):
        assert config == {}
        error = float(np.mean((self.data.x - parameters[0].mean()) ** 2))
        return error, len(self.data), {"mae": error**0.5}


def a_task(make=Client, **options):
    task = FlowerTask(make, **options)
    task.meet(DATA)
    return task


def test_parameters_keep_their_order_forms_and_types():
    task = a_task()
    assert form_of(task) == {
        "00000": ("F64", (2, 1)),
        "00001": ("I64", ()),
        "00002": ("F32", (3,)),
    }
    weights = {f"{n:05d}": np.array(float(n)) for n in range(12)}
    assert [float(one) for one in task.model(weights)] == [*range(12)]


def test_names_are_those_that_are_given():
    task = a_task(names=["z", "a", "m"])
    assert list(task.initial(0)) == ["z", "a", "m"]
    assert [one.ndim for one in task.model(task.initial(0))] == [2, 0, 1]
    with pytest.raises(BadSettings, match="3 parameters, but 2 names"):
        a_task(names=["z", "a"]).initial(0)


def test_fit_gets_the_settings_and_gives_a_result():
    task = a_task()
    first = task.initial(0)
    found = task.train(first, DATA, SETTINGS, 9)
    assert found.weights["00000"].ravel().tolist() == [1.25, 1.25]
    assert not first["00000"].any()  # the client changed arrays of its own
    assert (found.num_examples, found.metrics["steps"]) == (6, 1)
    assert Client.told == {
        **{"local_epochs": 3, "batch_size": 2, "learning_rate": 0.5, "momentum": 0.0},
        **{"weight_decay": 0.0, "proximal_mu": 0.25, "seed": 9},
    }


def test_fit_gets_the_names_that_its_author_uses():
    task = a_task(config=lambda training: {"learning_rate": 1.0, "epochs": training.epochs})
    task.train(task.initial(0), DATA, SETTINGS, 9)
    assert Client.told == {"seed": 9, "learning_rate": 1.0, "epochs": 3}


def test_evaluate_gives_the_loss_beside_the_metrics():
    task = a_task()
    found = task.evaluate(task.initial(0), DATA)
    assert found == {"loss": pytest.approx(55 / 6), "mae": pytest.approx((55 / 6) ** 0.5)}


def test_what_a_client_draws_is_a_function_of_the_seed_and_disturbs_nobody():
    task, first = a_task(), a_task().initial(0)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), np.random.random(), torch.rand(()).item()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    drawn = [task.train(first, DATA, SETTINGS, seed).weights["00002"] for seed in (3, 3, 4)]
    assert (random.random(), np.random.random(), torch.rand(()).item()) == expected
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()
    assert task.initial(5)["00002"].tolist() == task.initial(5)["00002"].tolist()
    assert task.initial(5)["00002"].tolist() != task.initial(6)["00002"].tolist()


def test_what_to_client_gives_will_do():
    class Wrapper:
        def __init__(self, numpy_client):
            self.numpy_client = numpy_client

    task = a_task(lambda data: Wrapper(Client(data)))
    assert task.train(task.initial(0), DATA, SETTINGS, 9).num_examples == 6


def test_first_parameters_may_come_from_a_function():
    task = FlowerTask(Client, initial=lambda: [np.ones(2)])
    assert task.initial(0)["00000"].tolist() == [1.0, 1.0]


class Bare:
    """As Flower's base class: it gives no parameters."""

    def __init__(self, data):
        pass

    def get_parameters(self, config):
        return []

    def fit(self, parameters, config):
        return parameters

    def evaluate(self, parameters, config):
        return 0.0, 1, {}


@pytest.mark.parametrize(
    "task", [FlowerTask(Client), a_task(Bare), pickle.loads(pickle.dumps(a_task()))]
)
def test_unknown_first_parameters_are_asked_for(task):
    with pytest.raises(BadSettings, match=r"give FlowerTask\(\.\.\., initial=\.\.\.\)"):
        task.initial(0)


def test_what_is_no_client_is_refused():
    with pytest.raises(BadSettings, match="is a dict without the method fit"):
        a_task(lambda data: {}).initial(0)
    task = a_task(Bare, initial=lambda: [np.ones(2)])
    with pytest.raises(TrainingFailed, match="fit must give three things"):
        task.train(task.initial(0), DATA, SETTINGS, 0)
