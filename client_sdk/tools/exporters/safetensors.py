"""safetensors: the model's own file, which every framework's safetensors library reads."""

from __future__ import annotations

from collections.abc import Callable

from client_sdk.tools.exporters.exporter import Exporter, Graph


class Safetensors(Exporter):
    """Writes the file as it is."""

    name = "safetensors"
    suffix = ".safetensors"
    has_graph = False

    def write(self, model: bytes, trace: Callable[[], Graph]) -> bytes:
        return model
