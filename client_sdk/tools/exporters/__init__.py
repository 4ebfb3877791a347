"""Exporters: the formats in which other programs read a model. One a file.

`exporter` has the contract, `EXPORTERS` the modules: a new one is a file here and a line there.
"""

from __future__ import annotations

from pathlib import Path

from client_sdk.errors import DataError
from client_sdk.tools.exporters.exporter import Exporter
from serverless_fl.registry import registered

EXPORTERS = {
    exporter.name: exporter
    for exporter in registered(
        Exporter,
        __name__,
        "onnx",
        "torchscript",
        "safetensors",
    )
}


def exporter_named(name: str) -> Exporter:
    """The exporter of a format. Raises DataError."""
    if name not in EXPORTERS:
        raise DataError(f"There is no format {name!r}: give one of {', '.join(EXPORTERS)}.")
    return EXPORTERS[name]()


def format_of(path: Path) -> str | None:
    """The name of the format whose suffix the path has; None where none has it."""
    named = (name for name, exporter in EXPORTERS.items() if exporter.suffix == path.suffix)
    return next(named, None)
