"""The task of tables: a linear model, or a network with one hidden layer, on prepared columns."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from client_sdk.data.data import Arrays
from client_sdk.data.seeds import SeededRandom
from client_sdk.data.tables.preparing import with_scales
from client_sdk.data.tables.schema import Schema
from client_sdk.errors import DataError
from client_sdk.task.model_file import TABLE, read_metadata
from client_sdk.task.randomness import torch_seeded
from client_sdk.task.settings import TrainSettings
from client_sdk.task.steps import Steps
from client_sdk.task.task import ALL_CORRECTIONS, Result, Task, Weights
from client_sdk.task.tensors import put_weights, weights_of
from client_sdk.task.train import sgd
from serverless_fl.domain.agreement import Scale, scales_in
from serverless_fl.domain.errors import BadWeights

Network = Literal["linear", "mlp"]
NETWORKS: tuple[Network, ...] = get_args(Network)
HIDDEN = 32  # neurons of the hidden layer


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in the caller's thread: to share a few rows out takes longer than to add them up."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _described(metadata: Mapping[str, str]) -> Schema:
    """The table that a model's metadata describe, with the scales that its parties' sums fixed.

    The coordinator writes these beside the description. Raises DataError.
    """
    schema = Schema.from_json(metadata.get(TABLE, ""))
    try:
        found = scales_in(metadata)
    except BadWeights as error:
        raise DataError(error.message) from error
    if not found or set(schema.numeric) - found.keys():
        return schema
    return with_scales(
        schema,
        [Scale(column=n, mean=m, deviation=d, count=0) for n, (m, d) in found.items()],
    )


class TableTask(Task):
    """Classifies rows, or estimates a number: x float32 [N, D]; y int64 [N], or float32 [N].

    "linear" is logistic or linear regression; "mlp" has a hidden layer of 32 neurons. It trains by
    plain SGD on cross-entropy, or on the squared error of the scaled label.
    """

    takes = ALL_CORRECTIONS

    def __init__(self, schema: Schema, network: Network = "linear") -> None:
        if network not in NETWORKS:
            raise DataError(f"A model of tables is one of {', '.join(NETWORKS)}, not {network!r}.")
        self.schema, self.network = schema, network
        self.name = f"table-{network}"

    def terms(self) -> Mapping[str, str]:
        """The network, the columns and the classes."""
        kind = "number" if self.schema.classes is None else ", ".join(self.schema.classes)
        columns = ", ".join(f"{c.name} ({c.kind})" for c in self.schema.columns)
        return {"network": self.network, "columns": columns, self.schema.label: kind}

    def description(self) -> dict[str, str]:
        """The network, the columns with their scales, and the label."""
        return {"model": json.dumps({"network": self.network}), TABLE: self.schema.to_json()}

    @classmethod
    def read(cls, model: bytes) -> TableTask:
        """The task that a model's file describes, which may be a stranger's. Raises DataError."""
        metadata = read_metadata(model)
        network = metadata.get("task", "").removeprefix("table-")
        found = next((name for name in NETWORKS if name == network), None)
        if found is None:
            raise DataError("The model is of a kind of network that this version does not know.")
        task = cls(_described(metadata), found)
        # A described network could exceed the memory, but the file is here: nothing is built yet.
        if 4 * task.count() > len(model):
            raise DataError("The file holds fewer weights than the model that it describes.")
        return task

    def count(self) -> int:
        """The number of weights."""
        inputs, outputs = len(self.schema.inputs), self._outputs
        if self.network == "linear":
            return (inputs + 1) * outputs
        return (inputs + 1) * HIDDEN + (HIDDEN + 1) * outputs

    @property
    def _outputs(self) -> int:
        return 1 if self.schema.classes is None else len(self.schema.classes)

    def initial(self, seed: int) -> Weights:
        """PyTorch's usual initial weights, as a function of the seed."""
        with torch_seeded(seed):
            return weights_of(self._build())

    @_one_thread()
    def train(self, weights: Weights, data: Arrays, training: TrainSettings, seed: int) -> Result:
        """Train by plain SGD, or DP-SGD; the metric is the last epoch's mean loss."""
        model = self._network(weights)
        x, y = torch.as_tensor(data.x), torch.as_tensor(data.y)
        optimiser = sgd([*model.parameters()], training)
        if training.example_noise is not None:
            from client_sdk.task.private import train_privately  # few trainings need it

            return train_privately(
                *(model, optimiser, training, len(y)),
                forward=lambda network, places: (network(x[places]), y[places]),
                losses=lambda outputs, targets: self._loss(outputs, targets) * len(targets),
            )
        steps = Steps(model, optimiser, training)
        draws, total = SeededRandom(seed), 0.0
        model.train()
        for _ in range(training.epochs):
            order, total = torch.from_numpy(draws.permutation(len(y))), 0.0
            for batch in order.split(training.batch_size):
                optimiser.zero_grad(set_to_none=True)
                loss = self._loss(model(x[batch]), y[batch])
                loss.backward()
                steps.take()
                total += loss.item() * len(batch)
        metrics = {"train_loss": total / len(y)}
        return Result(weights_of(model), len(y), metrics, steps.effective)

    @_one_thread()
    @torch.no_grad()
    def evaluate(self, weights: Weights, data: Arrays) -> dict[str, float]:
        """`loss` and `accuracy`; of a number, `loss`, which is the scaled squared error, alone."""
        found = self._network(weights).eval()(torch.as_tensor(data.x))
        y = torch.as_tensor(data.y)
        metrics = {"loss": self._loss(found, y).item()}
        if self.schema.classes is not None:
            metrics["accuracy"] = float((found.argmax(1) == y).float().mean())
        return metrics

    @_one_thread()
    @torch.no_grad()
    def outputs(self, weights: Weights, x: np.ndarray) -> np.ndarray:
        """The classes' probabilities [N, C], or the scaled estimate [N, 1], of rows [N, D]."""
        found = self._network(weights).eval()(torch.as_tensor(x))
        return np.asarray(found if self.schema.classes is None else found.softmax(1))

    def model(self, weights: Weights) -> nn.Module:
        """The network with these weights; its inputs are scaled already."""
        return self._network(weights).eval()

    def answers(self, weights: Weights, x: np.ndarray) -> np.ndarray:
        """The class of each row as a number, int64 [N], or its estimate, float32 [N], scaled."""
        found = self.outputs(weights, x)
        return found[:, 0] if self.schema.classes is None else found.argmax(1)

    def _loss(self, found: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if self.schema.classes is None:
            return F.mse_loss(found[:, 0], y)
        return F.cross_entropy(found, y)

    def _network(self, weights: Weights) -> nn.Module:
        model = self._build()
        put_weights(model, weights)
        return model

    def _build(self) -> nn.Module:
        inputs, outputs = len(self.schema.inputs), self._outputs
        if self.network == "linear":
            return nn.Linear(inputs, outputs)
        return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs))
