"""Converts a global model's file for other programs: ONNX, TorchScript, safetensors.

An ONNX or TorchScript file holds the graph, the weights, and metadata as strings: `classes`, the
`mean` and `std` of a channel, and descriptions of the `input` and the `output`.
"""

from __future__ import annotations

import io
import json
import warnings
from typing import Any

import torch
from torch import nn

from client_sdk import hints
from client_sdk.errors import DataError
from client_sdk.task.model_file import read_metadata
from client_sdk.tools.predict import Classifier

FORMATS = {"onnx": ".onnx", "torchscript": ".pt", "safetensors": ".safetensors"}
METADATA = "metadata.json"  # a TorchScript archive's extra file
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

    With `normalise` the graph takes pixels in [0, 1]; without, images that are normalised already.
    Raises DataError where the file is no model of this SDK, where the form has no graph to put the
    scaling into, or where a package for the form is not installed.
    """
    known = Classifier.parse(data, whose)
    if form == "safetensors":
        if normalise:
            raise DataError("A safetensors file holds weights only: --normalise needs a graph.")
        return data
    about = describe(read_metadata(data), known, normalise)
    network: nn.Module = FromPixels(known).eval() if normalise else known.model
    # A batch of two: the exporter takes a batch of one for a fixed size.
    spec = known.about.spec
    example = torch.rand(2, spec.in_channels, spec.height, spec.width)
    return (_onnx if form == "onnx" else _torchscript)(network, example, about)


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
        "input": _INPUT.format(spec.in_channels, spec.height, spec.width, how),
        "output": "logits: float32 [batch, classes]; their softmax gives probabilities",
    }


def _onnx(network: nn.Module, example: torch.Tensor, about: dict[str, str]) -> bytes:
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch.onnx raises a longer error without it)
    except ImportError as error:
        raise DataError(
            f"Exporting ONNX needs the package {error.name}: "
            f"{hints.install('serverless-fl[export]')}"
        ) from error
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 warns of its own tree specs
        warnings.simplefilter("ignore", DeprecationWarning)
        program = torch.onnx.export(
            network,
            (example,),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # noqa: S101  (it is with dynamo)
    model = program.model_proto
    _delete_notes(model.graph)
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _delete_notes(graph: Any) -> None:
    """Delete the exporter's notes: stack traces with paths of this machine."""
    for part in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        for item in part:
            item.ClearField("metadata_props")
            item.ClearField("doc_string")
    graph.ClearField("metadata_props")
    graph.ClearField("doc_string")


def _torchscript(network: nn.Module, example: torch.Tensor, about: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        # Deprecated for torch.export, whose files no C++ or mobile runtime reads yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(network, example)
        torch.jit.save(traced, file, _extra_files={METADATA: json.dumps(about)})
    return file.getvalue()
