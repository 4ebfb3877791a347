"""ONNX (https://onnx.ai): the graph with its weights; the metadata are the model's properties."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from client_sdk import hints
from client_sdk.errors import DataError
from client_sdk.tools.exporters.exporter import Exporter, Graph


class Onnx(Exporter):
    """Writes what ONNX Runtime and most other runtimes read."""

    name = "onnx"
    suffix = ".onnx"

    def write(self, model: bytes, trace: Callable[[], Graph]) -> bytes:
        try:
            import onnx
            import onnxscript  # noqa: F401  (torch.onnx raises a longer error without it)
        except ImportError as error:
            raise DataError(
                f"Exporting ONNX needs the package {error.name}: "
                f"{hints.install('serverless-fl[export]')}"
            ) from error
        import torch

        graph, batch = trace(), torch.export.Dim("batch")
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 warns of its own tree specs
            warnings.simplefilter("ignore", DeprecationWarning)
            # Several inputs have one batch, and torch says so.
            warnings.filterwarnings("ignore", "# The axis name", UserWarning)
            program = torch.onnx.export(
                graph.network,
                graph.examples,
                input_names=graph.inputs,
                output_names=[graph.output],
                dynamic_shapes=tuple({0: batch} for _ in graph.examples),
                dynamo=True,
                verbose=False,
            )
        assert program is not None  # noqa: S101  (it is with dynamo)
        made = program.model_proto
        _delete_notes(made.graph)
        onnx.helper.set_model_props(made, dict(graph.about))
        onnx.checker.check_model(made, full_check=True)
        data: bytes = made.SerializeToString(deterministic=True)
        return data


def _delete_notes(graph: Any) -> None:
    """Delete the exporter's notes: stack traces with paths of this machine."""
    for part in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        for item in part:
            item.ClearField("metadata_props")
            item.ClearField("doc_string")
    graph.ClearField("metadata_props")
    graph.ClearField("doc_string")
