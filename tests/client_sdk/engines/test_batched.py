"""A cohort trained as one model: the same updates as one client after another, to a tolerance."""

import asyncio

import numpy as np
import pytest
import torch
from torch import nn

from client_sdk.data.data import Arrays, Items
from client_sdk.data.preparation import Preparation
from client_sdk.engines.batched import Batched
from client_sdk.engines.in_line import InLine
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.errors import DataError
from client_sdk.task import weights_file
from client_sdk.task.model_file import Description
from client_sdk.task.models import spec_for
from client_sdk.task.pictures import PictureTask
from client_sdk.task.torch_task import TorchTask
from serverless_fl.wire.turns import Train, Training
from tests.support.here import run_here

SHARES = (range(40), range(40, 78), range(78, 81), range(81, 82), range(82, 120))
DRAWS = np.random.Generator(np.random.Philox(3))
X = DRAWS.random((120, 1, 8, 8), np.float32)
Y = DRAWS.integers(0, 3, 120)
PICTURES = Arrays(torch.from_numpy(X), torch.from_numpy(Y))


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )


def classic():
    spec = spec_for("digits-cnn", (1, 8, 8), 3)
    prepared = Preparation(1, 8, 8)
    about = Description(spec, "own", ("a", "b", "c"), (0.5,), (0.3,), prepared)
    return PictureTask(about, kernel="torch")


def order(**more):
    plain = {"local_epochs": 2, "batch_size": 16, "learning_rate": 0.05, "momentum": 0.9}
    training = Training(**plain | {"seed": 5} | more)
    return Train.model_construct(round=1, training=training)


def updates(engine, task, data=PICTURES, shares=SHARES, offset=None, **more):
    """Each client's update, and how the engine says that it trains."""
    with LocalTrainer(task, data, engine) as trainer:
        base = weights_file.write(task.initial(7))

        async def all_of_them():
            jobs = []
            for place, share in enumerate(shares):
                found = (f"c-{place}", share, base, order(**more))
                jobs.append(
                    trainer.train_corrected(*found, offset(task, place))
                    if offset
                    else trainer.train(*found)
                )
            return await asyncio.gather(*jobs)

        found = asyncio.run(all_of_them())
        description = engine.description
    return found, description


def require_alike(some, others):
    for one, other in zip(some, others, strict=True):
        assert one.num_examples == other.num_examples
        assert one.effective_steps == other.effective_steps
        expected = weights_file.read(other.weights)
        for name, values in weights_file.read(one.weights).items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-3, atol=2e-5)
        for name in one.metrics.keys() - {"train_seconds"}:
            assert one.metrics[name] == pytest.approx(other.metrics[name], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("task", "more"),
    [
        (classic(), {"weight_decay": 0.01}),
        (classic(), {"proximal_mu": 0.5, "max_gradient_norm": 0.2}),
        (TorchTask(network), {}),
        (TorchTask(network, optimiser=torch.optim.Adam), {"learning_rate": 0.01}),
        (TorchTask(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), loss=nn.MSELoss()), {}),
    ],
)
def test_clients_of_unequal_sizes_get_the_updates_of_one_after_another(task, more):
    together, description = updates(Batched(3), task, **more)
    alone, _ = updates(InLine(), task, **more)
    assert description == "up to 3 clients as one model"
    require_alike(together, alone)
    moved = weights_file.read(together[0].weights)
    assert any(np.abs(moved[n] - v).max() > 1e-3 for n, v in task.initial(7).items())


def test_each_client_has_the_offset_that_its_strategy_gives_it():
    def offset(task, place):
        return {name: np.full_like(v, 0.1 * place) for name, v in task.initial(7).items()}

    together, _ = updates(Batched(5), classic(), offset=offset)
    alone, _ = updates(InLine(), classic(), offset=offset)
    require_alike(together, alone)


def test_the_same_seed_gives_the_same_bytes_whoever_trains_beside():
    together, _ = updates(Batched(3), TorchTask(network))
    again, _ = updates(Batched(3), TorchTask(network))
    assert [u.weights for u in together] == [u.weights for u in again]
    few, _ = updates(Batched(3), TorchTask(network), shares=SHARES[:2])
    assert [u.weights for u in few] == [u.weights for u in together[:2]]


class Counting(nn.Module):
    """Counts its steps in a buffer, as running statistics do."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(64, 3)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1
        return self.dense(x.flatten(1))


class Centred(nn.Module):
    """Takes the mean of a batch off each of its examples."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(64, 3)

    def forward(self, x):
        x = self.dense(x.flatten(1))
        return x - x.mean(0)


class Branching(nn.Module):
    """Chooses by a value."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(64, 3)

    def forward(self, x):
        x = self.dense(x.flatten(1))
        return x if self.dense.bias[0] < 5 else -x


class Idle(nn.Module):
    """Has a parameter that nothing uses."""

    def __init__(self):
        super().__init__()
        self.dense, self.idle = nn.Linear(64, 3), nn.Linear(2, 2)

    def forward(self, x):
        return self.dense(x.flatten(1))


def dense(*more):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3), *more)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (TorchTask(lambda: dense(nn.BatchNorm1d(3))), "2 is a BatchNorm1d, which mixes"),
        (TorchTask(lambda: dense(nn.Dropout(0.5))), "draws random numbers, as dropout does"),
        (TorchTask(Counting), "the buffer seen changes while it trains"),
        (TorchTask(Centred), "depend on the others of its batch"),
        (TorchTask(Branching), "torch.func cannot batch the network"),
        (TorchTask(Idle), "the loss does not depend on idle.weight"),
        (TorchTask(dense, optimiser=torch.optim.Rprop), "the optimiser Rprop is none of SGD, Adam"),
        (
            TorchTask(dense, loss=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 9.0]))),
            "the loss is no mean of the losses of the examples",
        ),
    ],
)
def test_what_cannot_be_one_model_is_named_and_trains_one_after_another(task, reason):
    found, description = updates(Batched(2), task, shares=SHARES[:2])
    assert description.startswith("one client after another, because ")
    assert reason in description
    assert [u.weights for u in found] == [
        u.weights for u in updates(InLine(), task, shares=SHARES[:2])[0]
    ]


def test_examples_that_are_read_one_at_a_time_are_named():
    items = Items([(x, int(y)) for x, y in zip(X, Y, strict=True)])
    _, description = updates(Batched(2), TorchTask(dense), data=items, shares=SHARES[:1])
    assert "the examples of Items are read one at a time" in description


def test_the_fault_of_one_client_is_not_that_of_the_others():
    wrong = Y.copy()
    wrong[40:78] = 7  # no class of the network
    with LocalTrainer(TorchTask(dense), Arrays(X, wrong), Batched(3)) as trainer:
        base = weights_file.write(trainer.task.initial(7))

        async def all_of_them():
            jobs = (
                trainer.train(f"c-{place}", share, base, order())
                for place, share in enumerate(SHARES[:3])
            )
            return await asyncio.gather(*jobs, return_exceptions=True)

        first, second, third = asyncio.run(all_of_them())
        assert trainer.engine.description == "up to 3 clients as one model"
    assert isinstance(second, DataError)
    assert [one.num_examples for one in (first, third)] == [36, 2]


def test_a_run_says_which_engine_trained(tmp_path):
    done = run_here(
        *("run", "--dataset", "digits", "--clients", "3", "--clients-per-round", "3"),
        *("--rounds", "1", "--local-epochs", "1", "--engine", "batched", "--out", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    assert "up to 3 clients as one model, PyTorch on " in done.stdout
    assert "up to 3 clients as one model" in (tmp_path / "report.json").read_text()
    assert 'engine = "batched"' in (tmp_path / "config.toml").read_text()
