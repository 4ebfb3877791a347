"""The graph of a model of tables, for `export`."""

from __future__ import annotations

import json

import torch
from torch import nn

from client_sdk.data.tables.preparing import FARTHEST
from client_sdk.data.tables.schema import Scale, Schema
from client_sdk.errors import DataError
from client_sdk.task import weights_file
from client_sdk.task.model_file import read_metadata
from client_sdk.task.own_data.table_task import TableTask
from client_sdk.tools.exporters.exporter import SCALING, Graph, scaling

_RAW = "as they are, NaN where one is missing: the graph scales them"
_SCALED = "numbers scaled by their mean and deviation, and 0 where one is missing"


class FromNumbers(nn.Module):
    """A network that takes the numbers of a table, and scales them and its own estimate itself."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, network: nn.Module, schema: Schema) -> None:
        super().__init__()
        self.network = network
        scales = [
            (column.scale or Scale(0.0, 1.0)) if place == 0 else Scale(0.0, 1.0)
            for column in schema.columns
            for place in range(len(column.inputs))
        ]
        self.register_buffer("mean", torch.tensor([s.mean for s in scales]))
        self.register_buffer("deviation", torch.tensor([s.deviation for s in scales]))
        self.answer = schema.label_scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scaled = ((x - self.mean) / self.deviation).nan_to_num(0.0).clamp(-FARTHEST, FARTHEST)
        found: torch.Tensor = self.network(scaled)
        if self.answer is None:
            return found
        return found * self.answer.deviation + self.answer.mean


def table_graph(data: bytes, normalise: bool) -> Graph:
    """The graph of a model's file. Raises DataError."""
    task = TableTask.read(data)
    schema = task.schema
    network = task.model(weights_file.read(data))
    if normalise:
        if any(c.scale is None for c in schema.columns if c.kind != "category"):
            raise DataError("The model's file lacks the means and deviations: see join --out.")
        network = FromNumbers(network, schema)
    number = "one number" if normalise else "one number, scaled by the label's mean and deviation"
    about = {
        **{name: text for name, text in sorted(read_metadata(data).items()) if name != "format"},
        SCALING: scaling(normalise),
        "inputs": json.dumps(schema.inputs, ensure_ascii=False),
        "input": f"rows: float32 [batch, {len(schema.inputs)}], "
        f"{_RAW if normalise else _SCALED}; a category is a 1 among zeros",
        "output": f"numbers: float32 [batch, 1], {number}"
        if schema.classes is None
        else "logits: float32 [batch, classes]; their softmax gives probabilities",
    }
    if schema.classes is not None:
        about["classes"] = json.dumps(schema.classes, ensure_ascii=False)
    example = torch.rand(2, len(schema.inputs))
    return Graph(network.eval(), example, about, "rows", "logits" if schema.classes else "numbers")
