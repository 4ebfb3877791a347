"""Writes the graph of a network with its weights and metadata: ONNX, TorchScript."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from client_sdk import hints
from client_sdk.errors import DataError

METADATA = "metadata.json"  # a TorchScript archive's extra file


@dataclass(frozen=True)
class Graph:
    """A network, inputs to trace it with, the names of its input and output, and the metadata.

    `example` is [N, ...]. N is two or more: the exporter takes a batch of one for a fixed size.
    """

    network: nn.Module
    example: torch.Tensor
    about: Mapping[str, str]
    input: str
    output: str


def write_graph(graph: Graph, form: str) -> bytes:
    """The bytes of an "onnx" or "torchscript" file; the batch may have any size.

    Raises DataError where a package is not installed, or the network cannot be exported.
    """
    network = graph.network.eval()
    try:
        return (_onnx if form == "onnx" else _torchscript)(network, graph)
    except (RuntimeError, ValueError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DataError(f"PyTorch cannot export this network as {form}: {first}") from error


def _onnx(network: nn.Module, graph: Graph) -> bytes:
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
            (graph.example,),
            input_names=[graph.input],
            output_names=[graph.output],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # noqa: S101  (it is with dynamo)
    model = program.model_proto
    _delete_notes(model.graph)
    onnx.helper.set_model_props(model, dict(graph.about))
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


def _torchscript(network: nn.Module, graph: Graph) -> bytes:
    file = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        # Deprecated for torch.export, whose files no C++ or mobile runtime reads yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(network, graph.example)
        torch.jit.save(traced, file, _extra_files={METADATA: json.dumps(dict(graph.about))})
    return file.getvalue()
