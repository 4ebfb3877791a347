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

import safetensors.torch
import torch
import torch.nn.functional as F

from client_sdk.api.client import CoordinatorClient
from client_sdk.data import datasets
from client_sdk.data.dataset import Dataset
from client_sdk.data.seeds import derive_seed
from client_sdk.simulation.embedded import EmbeddedCoordinator
from client_sdk.simulation.global_models import GlobalModels
from client_sdk.simulation.simulate import Simulation
from client_sdk.task import models
from client_sdk.task.train import Evaluation, LocalUpdate
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.turns import Train


def initial(seed: int) -> dict[str, torch.Tensor]:
    """PyTorch's initial weights of 784 x 10, in its own order."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer = torch.nn.Linear(784, 10)
    return {name: tensor.detach() for name, tensor in layer.state_dict().items()}


class Trainer:
    """SGD on a client's images, in this process."""

    def __init__(self, dataset: Dataset) -> None:
        self.x = dataset.normalise(dataset.train_x).flatten(1)
        self.y = dataset.train_y

    async def train(
        self, client_id: str, indices: Sequence[int], weights: bytes, task: Train
    ) -> LocalUpdate:
        found, own = safetensors.torch.load(weights), torch.tensor(indices)
        w, b = found["weight"].requires_grad_(), found["bias"].requires_grad_()
        optimiser = torch.optim.SGD([w, b], lr=task.training.learning_rate)
        shuffle = torch.Generator()
        shuffle.manual_seed(derive_seed(task.training.seed, "train", task.round, client_id))
        for _ in range(task.training.local_epochs):
            order = own[torch.randperm(len(own), generator=shuffle)]
            for batch in order.split(task.training.batch_size):
                loss = F.cross_entropy(F.linear(self.x[batch], w, b), self.y[batch])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        trained = {"weight": w.detach(), "bias": b.detach()}
        return LocalUpdate(safetensors.torch.save(trained), len(own), {})


class LogisticModels(GlobalModels):
    """Measures logistic regression."""

    def _measure(self, weights: bytes) -> Evaluation:
        found, y = safetensors.torch.load(weights), self._dataset.test_y
        answers = F.linear(self._test_x.flatten(1), found["weight"], found["bias"])
        right = float((answers.argmax(1) == y).float().mean())
        return Evaluation(F.cross_entropy(answers, y).item(), right, len(y))


class Logistic(Simulation):
    """A simulation whose model is another one than the SDK's."""

    async def create(self) -> str:
        made = await self.client.create_experiment(
            self.name, self.config, self._derive("experiment")
        )
        weights = safetensors.torch.save(initial(self.config.seed))
        await self.client.upload_initial_model(
            made.id, weights, made.part_bytes, direct=made.direct
        )
        found = await super().create()  # finds the experiment again, with its model
        self._models = LogisticModels(self.client, self._created, self.dataset, self.spec)
        return found


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
    spec = models.spec_for(
        "mnist-cnn", dataset.shape, 10
    )  # a simulation wants one; no weights of it are used
    key = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        async with (
            EmbeddedCoordinator(Path(folder), key) as server,
            CoordinatorClient(server.url, key) as client,
        ):
            simulation = Logistic(
                client, dataset, spec, config, Trainer(dataset), secret=secrets.token_hex(16)
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
