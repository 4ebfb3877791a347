"""The tables that help to choose an algorithm: each a study with a short form and a long one.

A study is a list of cases, made by its form. The short form takes some minutes of a processor for
each seed, the long one less than two hours on two cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.algorithms.attacks import (
    Attack,
    Backdoor,
    LabelFlip,
    Noise,
    SignFlip,
    triggered_test,
)
from benchmarks.algorithms.simulated import Case, Fleet, Material
from client_sdk.data import datasets
from client_sdk.data.data import Arrays
from client_sdk.data.dataset import Dataset, normalise
from client_sdk.data.splits.drawing import Law
from client_sdk.task.model_file import Description
from client_sdk.task.models import ModelSpec
from client_sdk.task.pictures import PictureTask, picture_task
from client_sdk.task.task import Task, Weights
from client_sdk.task.torch_task import TorchTask

SPLITS: dict[str, Law] = {
    "equal": "equal",
    "Dirichlet 0.5": {"name": "dirichlet-classes", "alpha": 0.5},
    "Dirichlet 0.1": {"name": "dirichlet-classes", "alpha": 0.1},
    "two labels": "label-shards",
}


@dataclass(frozen=True)
class Form:
    """How much of a study: `train` and `test` are numbers of examples (None: all)."""

    rounds: int
    train: int | None = None
    test: int | None = None
    every: int = 1
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A table: its cases by form, what is learnt, and whether a `backdoor` is measured."""

    title: str
    short: Form
    long: Form
    cases: Callable[[Form], Iterator[Case]]
    task: Callable[[Dataset], Task] = picture_task
    backdoor: bool = False

    def material(self, form: Form, dataset: str, data_dir: Path) -> Material:
        """The examples and the task. Raises DataError where the data set is not there."""
        found = datasets.load(dataset, data_dir)
        task = self.task(found)
        train, test = _first(found.train, form.train), _first(found.test, form.test)
        return Material(task, train, test, form.every, _Backdoor(test) if self.backdoor else _none)


def _first(data: Arrays, count: int | None) -> Arrays:
    """MNIST's files are in a random order, so the first examples are like all."""
    return data if count is None else data.subset(range(min(count, len(data))))


def _none(task: Task, weights: Weights) -> Mapping[str, float]:
    return {}


class _Backdoor:
    """Measures for which share of the pictures with the trigger the backdoor opens."""

    def __init__(self, test: Arrays) -> None:
        self._test = triggered_test(test)

    def __call__(self, task: Task, weights: Weights) -> Mapping[str, float]:
        return {"backdoor": task.evaluate(weights, self._test)["accuracy"]}


# Labels that differ

PLAIN = {"learning_rate": 0.05, "momentum": 0.0, "batch_size": 10, "clients_per_round": 10}
STRATEGIES: dict[str, dict[str, Any]] = {
    "FedAvg": {},
    "FedProx, mu 0.1": {"proximal_mu": 0.1},
    "FedAdam, rate 0.01": {"strategy": "fedadam"},
    "SCAFFOLD": {"strategy": "scaffold"},
    "FedBuff": {"schedule": "buffered"},
}


def _labels(form: Form) -> Iterator[Case]:
    settings = {**PLAIN, "rounds": form.rounds, **form.more}
    for column, split in SPLITS.items():
        for row, own in STRATEGIES.items():
            # Speeds differ, or no buffer would ever hold an update of an older model.
            yield Case(row, column, settings | own, split=split, fleet=Fleet(sigma=0.5))


# Malicious clients

ATTACKS: dict[str, Attack] = {
    "sign flip": SignFlip(),
    "noise": Noise(),
    "label flip": LabelFlip(),
    "backdoor": Backdoor(),
}
RULES: dict[str, dict[str, Any]] = {
    "FedAvg": {},
    "median": {"strategy": "median"},
    "trimmed mean": {"strategy": {"name": "trimmed-mean", "byzantine": 3}},
    "Krum": {"strategy": {"name": "krum", "byzantine": 3}},
    "geometric median (RFA)": {"strategy": "geometric-median"},
    "clipping": {"max_update_norm": 1.0},
}


def _malicious(form: Form) -> Iterator[Case]:
    settings = PLAIN | {"rounds": form.rounds, "quorum": 10}
    for row, own in RULES.items():
        yield Case(row, "none", settings | own, clients=10)
        for name, attack in ATTACKS.items():
            for share in form.more["shares"]:
                column = f"{name}, {share} of 10"
                yield Case(
                    *(row, column, settings | own), clients=10, malicious=share, attack=attack
                )


# Stragglers

SCHEDULES: dict[str, Any] = {
    "synchronous": "synchronous",
    "synchronous, 13 asked for 10": {"name": "synchronous", "over_selection": 3},
    "buffered (FedBuff), 10": "buffered",
}
FLEETS = {
    "speeds alike": Fleet(),
    "log-normal speeds": Fleet(sigma=1.0),
    "log-normal speeds, 20 % drop out": Fleet(sigma=1.0, dropping=0.2, away_seconds=60.0),
}


def _stragglers(form: Form) -> Iterator[Case]:
    # A median client takes some seconds; the deadline is many times that.
    settings = {**PLAIN, "rounds": form.rounds, "deadline_seconds": 60.0, **form.more}
    for column, fleet in FLEETS.items():
        for row, schedule in SCHEDULES.items():
            yield Case(row, column, settings | {"schedule": schedule}, fleet=fleet)


# Published tables

NIID_BENCH = {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 1e-5, "batch_size": 64}
NIID_SPLITS = {"IID": SPLITS["equal"], "Dir .5": SPLITS["Dirichlet 0.5"]}
NIID_SPLITS |= {"2 labels": SPLITS["two labels"]}
NIID_STRATEGIES: dict[str, dict[str, Any]] = {
    "FedAvg": {},
    "FedProx": {"proximal_mu": 0.01},
    "FedNova": {"strategy": "fednova"},
    # SCAFFOLD's clients take plain SGD: its 1 / (K eta) is wrong with momentum.
    "SCAFFOLD": {"strategy": "scaffold", "momentum": 0.0},
}


def _niid_bench(form: Form) -> Iterator[Case]:
    settings = {**NIID_BENCH, "rounds": form.rounds, "local_epochs": 10, **form.more}
    for column, split in NIID_SPLITS.items():
        for row, own in NIID_STRATEGIES.items():
            yield Case(row, column, settings | own, clients=10, split=split)


def lenet(found: Dataset) -> TorchTask:
    """NIID-Bench's network: convolutions of 6 and 16, dense layers of 120 and 84, pixels scaled."""
    channels, *sides = found.shape
    high, wide = (((side - 4) // 2 - 4) // 2 for side in sides)

    def network() -> nn.Module:
        return nn.Sequential(
            *(_Scaled(found), nn.Conv2d(channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(16 * high * wide, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()),
            nn.Linear(84, len(found.classes)),
        )

    return TorchTask(network, name="lenet")


class _Scaled(nn.Module):
    """Scales pixels. It has no buffers, because those would travel with the weights."""

    def __init__(self, found: Dataset) -> None:
        super().__init__()
        self._mean, self._std = found.mean, found.std

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return normalise(x, self._mean, self._std)


MCMAHAN = {"learning_rate": 0.1, "momentum": 0.0, "batch_size": 10, "clients_per_round": 10}
MCMAHAN_EPOCHS = (1, 5, 20)


def _mcmahan(form: Form) -> Iterator[Case]:
    settings = MCMAHAN | {"rounds": form.rounds}
    for column in form.more["splits"]:
        split = {"IID": SPLITS["equal"], "two shards": SPLITS["two labels"]}[column]
        for epochs in form.more["epochs"]:
            own = settings | {"local_epochs": epochs}
            yield Case(f"E={epochs}, B=10", column, own, clients=100, split=split, stop_at=0.99)


def mcmahan_cnn(found: Dataset) -> PictureTask:
    """McMahan's CNN: 5 x 5 convolutions of 32 and 64, 512 units; 1,663,370 weights of MNIST."""
    shape, classes = found.shape, len(found.classes)
    spec = ModelSpec("mcmahan-cnn", *shape, classes, (32, 64), 5, 2, 512)
    return PictureTask(Description.of(found, spec))


STUDIES = {
    "labels": Study(
        "Labels that differ between clients",
        Form(10, 6_000, 2_000, 2, {"local_epochs": 1}),
        Form(50, None, None, 5, {"local_epochs": 2}),
        _labels,
    ),
    "malicious": Study(
        "Malicious clients",
        Form(10, 3_000, 2_000, 10, {"shares": (1, 3)}),
        Form(20, 20_000, None, 5, {"shares": (1, 2, 3)}),
        _malicious,
        backdoor=True,
    ),
    "stragglers": Study(
        "Clients of different speeds, and clients that drop out",
        Form(10, 6_000, 2_000, 2, {"local_epochs": 1}),
        Form(50, None, None, 5, {"local_epochs": 2}),
        _stragglers,
    ),
    "niid-bench": Study(
        "NIID-Bench's table",
        Form(5, None, None, 1, {"local_epochs": 1}),
        Form(5, None, None, 1),
        _niid_bench,
        lenet,
    ),
    "mcmahan": Study(
        "McMahan's rounds to 99 %",
        Form(100, more={"epochs": (1,), "splits": ("IID",)}),
        Form(400, more={"epochs": MCMAHAN_EPOCHS, "splits": ("IID", "two shards")}),
        _mcmahan,
        mcmahan_cnn,
    ),
}
