"""Converts a global model's file for other programs, in a format of `client_sdk.tools.exporters`.

A format with a graph holds the graph, the weights, and metadata as strings: those of the
model's file, such as `classes`, the `mean` and `std` of a channel or the columns of a table, and
descriptions of the `input` and the `output`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from client_sdk.errors import DataError
from client_sdk.task import weights_file
from client_sdk.task.agreeing import require_same
from client_sdk.task.model_file import TABLE, read_metadata
from client_sdk.task.task import Task
from client_sdk.tools.export_table import table_graph
from client_sdk.tools.exporters import exporter_named
from client_sdk.tools.exporters.exporter import SCALING, Graph, scaling
from client_sdk.tools.predict import Classifier

_INPUT = "images: float32 [batch, {}, {}, {}] in [0, 1], {}"
_RAW = "as they are: the graph normalises them"
_SCALED = "then (x * white - mean) / std a channel"


class FromPixels(nn.Module):
    """A network that takes pixels in [0, 1] and normalises them itself."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, known: Classifier) -> None:
        super().__init__()
        self.model = known.model
        self.register_buffer("mean", torch.tensor(known.about.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(known.about.std).view(1, -1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model((x - self.mean) / self.std)
        return logits


def export(data: bytes, form: str, *, normalise: bool = False, whose: str = "The model") -> bytes:
    """A model file's bytes in another form; `whose` names it in messages.

    With `normalise` the graph takes pixels in [0, 1], or the numbers of a table; without, inputs
    that are scaled already. Raises DataError where the file is no model of this SDK, where the form
    has no graph to put the scaling into, or where a package for the form is not installed.
    """
    about = read_metadata(data)
    graph = table_graph(data, normalise) if TABLE in about else _of_pictures(data, normalise, whose)
    if normalise and not exporter_named(form).has_graph:
        raise DataError(f"A {form} file holds weights only: --normalise needs a graph.")
    return _write(data, form, lambda: graph)


def export_task(task: Task, data: bytes, form: str, example: Callable[[], Any]) -> bytes:
    """The network of a user's own task, whose `model` gives a torch module.

    `example` gives some of its inputs, [N, ...]; a format without a graph does not call it. Raises
    DataError as `export`, and where the file is of another task.
    """
    require_same(task, data, "the model's file")
    return _write(data, form, lambda: _of_task(task, data, example()))


def _write(data: bytes, form: str, trace: Callable[[], Graph]) -> bytes:
    """Raises DataError."""
    try:
        return exporter_named(form).write(data, trace)
    except (RuntimeError, ValueError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DataError(f"PyTorch cannot export this network as {form}: {first}") from error


def _of_task(task: Task, data: bytes, example: Any) -> Graph:
    """Raises DataError."""
    network = task.model(weights_file.read(data))
    if not isinstance(network, nn.Module):
        raise DataError(f"The model of {task.name} is a {type(network).__name__}, no torch module.")
    several = isinstance(example, tuple)
    inputs = tuple(map(_two_of, example if several else (example,)))
    about = {**read_metadata(data), "output": "output"}
    made = Graph(network.eval(), inputs if several else inputs[0], about, "input", "output")
    forms = zip(made.inputs, map(_form_of, inputs), strict=True)
    about["input"] = "; ".join(f"{name}: {form}" for name, form in forms)
    return made


def _two_of(column: Any) -> torch.Tensor:
    """Two examples of an input. Raises DataError."""
    found = torch.as_tensor(column)[:2]
    if len(found) < 2:
        raise DataError("An export needs two inputs or more, to see which size may vary.")
    return found.float() if found.is_floating_point() else found


def _form_of(column: torch.Tensor) -> str:
    kind = str(column.dtype).removeprefix("torch.")
    return f"{kind} [batch{''.join(f', {n}' for n in column.shape[1:])}]"


def _of_pictures(data: bytes, normalise: bool, whose: str) -> Graph:
    known = Classifier.parse(data, whose)
    about = describe(read_metadata(data), known, normalise)
    network: nn.Module = FromPixels(known) if normalise else known.model
    spec = known.about.spec
    example = torch.rand(2, spec.in_channels, spec.height, spec.width)
    return Graph(network.eval(), example, about, "images", "logits")


def describe(found: dict[str, str], known: Classifier, normalise: bool) -> dict[str, str]:
    """The exported file's metadata: the model file's own, and how to call the graph."""
    how = _RAW if normalise else _SCALED
    spec = known.about.spec
    return {
        **{name: text for name, text in sorted(found.items()) if name != "format"},
        "classes": json.dumps(known.about.classes),
        "mean": json.dumps(known.about.mean),
        "std": json.dumps(known.about.std),
        "white": "1.0",
        SCALING: scaling(normalise),
        "input": _INPUT.format(spec.in_channels, spec.height, spec.width, how),
        "output": "logits: float32 [batch, classes]; their softmax gives probabilities",
    }
