"""Logistic regression through the coordinator: another model than the SDK's own, with its API.

    python -m benchmarks.training.logistic DATA_DIR SETTINGS

SETTINGS is JSON, as peers.py's FLUTE. Prints JSON: accuracy by round. FLUTE's comparison
(https://microsoft.github.io/msrflute) has a thousand clients with sixty of MNIST's images each.
Training one of them takes a few milliseconds, so this measures all the rest.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from client_sdk.api.client import CoordinatorClient
from client_sdk.data import datasets
from client_sdk.data.data import Arrays
from client_sdk.data.dataset import Dataset
from client_sdk.data.seeds import derive_seed
from client_sdk.simulation.embedded import EmbeddedCoordinator
from client_sdk.simulation.simulate import Simulation
from client_sdk.task import weights_file
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import LocalUpdate, Result, Task, Weights
from client_sdk.task.tensors import weights_of
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.turns import Train


class Logistic(Task):
    """Logistic regression by SGD; an experiment's seed makes PyTorch's initial weights."""

    name = "logistic"

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset, self.experiment_seed = dataset, seed

    def initial(self, seed: int) -> Weights:
        """784 x 10, in PyTorch's own order."""
        with torch.random.fork_rng():
            torch.manual_seed(self.experiment_seed)
            layer = torch.nn.Linear(784, 10)
        return weights_of(layer)

    def train(self, weights: Weights, data: Arrays, training: TrainSettings, seed: int) -> Result:
        x, y = self.dataset.normalise(data.x).flatten(1), data.y
        w, b = (torch.from_numpy(weights[name]).requires_grad_() for name in ("weight", "bias"))
        optimiser = torch.optim.SGD([w, b], lr=training.learning_rate)
        shuffle = torch.Generator()
        shuffle.manual_seed(seed)
        for _ in range(training.epochs):
            for batch in torch.randperm(len(y), generator=shuffle).split(training.batch_size):
                loss = F.cross_entropy(F.linear(x[batch], w, b), y[batch])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return Result({"weight": w.detach().numpy(), "bias": b.detach().numpy()}, len(y))

    def evaluate(self, weights: Weights, data: Arrays) -> dict[str, float]:
        w, b = (torch.from_numpy(weights[name]) for name in ("weight", "bias"))
        answers = F.linear(self.dataset.normalise(data.x).flatten(1), w, b)
        right = float((answers.argmax(1) == data.y).float().mean())
        return {"loss": F.cross_entropy(answers, data.y).item(), "accuracy": right}


class Trainer:
    """Trains on all of a client's images, in this process: the others hold none out."""

    def __init__(self, task: Logistic, data: Arrays) -> None:
        self.task, self.data = task, data

    async def train(
        self, client_id: str, indices: Sequence[int], weights: bytes, order: Train
    ) -> LocalUpdate:
        told = order.training
        settings = TrainSettings(told.local_epochs, told.batch_size, told.learning_rate)
        seed = derive_seed(told.seed, "train", order.round, client_id)
        base = weights_file.read(weights)
        found = self.task.train(base, self.data.subset(indices), settings, seed)
        return LocalUpdate(weights_file.write(found.weights), found.num_examples, {})


async def run(dataset: Dataset, settings: Mapping[str, Any]) -> list[float]:
    """Accuracy by round, through a coordinator of its own under uvicorn."""
    torch.set_num_threads(1)
    names = ("clients", "clients_per_round", "rounds", "local_epochs", "batch_size")
    config = ExperimentConfig(
        dataset="mnist",
        dataset_size=len(dataset.train_y),
        model="logistic",
        learning_rate=settings["learning_rate"],
        momentum=settings["momentum"],
        seed=settings["seed"],
        **{name: settings[name] for name in names},
    )
    task = Logistic(dataset, settings["seed"])
    key = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        async with (
            EmbeddedCoordinator(Path(folder), key) as server,
            CoordinatorClient(server.url, key) as client,
        ):
            simulation = Simulation(
                *(client, task, config, Trainer(task, dataset.train)),
                test=dataset.test,
                secret=secrets.token_hex(16),
            )
            await simulation.create()
            outcome = await simulation.run()
    return [row.accuracy for row in outcome.rows]


def main() -> None:
    data_dir, settings = sys.argv[1:]
    dataset = datasets.load("mnist", Path(data_dir), download=False)
    print(json.dumps({"accuracy": asyncio.run(run(dataset, json.loads(settings)))}))


if __name__ == "__main__":
    main()
