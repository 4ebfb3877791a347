"""TorchScript: an archive that PyTorch's C++ and mobile runtimes load without Python."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable

from client_sdk.tools.exporters.exporter import Exporter, Graph

METADATA = "metadata.json"  # the archive's extra file


class TorchScript(Exporter):
    """Writes a traced network, with the metadata in an extra file."""

    name = "torchscript"
    suffix = ".pt"

    def write(self, model: bytes, trace: Callable[[], Graph]) -> bytes:
        import torch

        graph, file = trace(), io.BytesIO()
        with torch.no_grad(), warnings.catch_warnings():
            # Deprecated for torch.export, whose files no C++ or mobile runtime reads yet.
            warnings.simplefilter("ignore", DeprecationWarning)
            traced = torch.jit.trace(graph.network, graph.example)
            extra = {METADATA: json.dumps(dict(graph.about))}
            torch.jit.save(traced, file, _extra_files=extra)
        return file.getvalue()
