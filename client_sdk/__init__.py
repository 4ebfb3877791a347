"""Federated learning as a client: enrol, train locally, upload; or run all clients here.

    from client_sdk import Participant, CoordinatorClient, TrainingPool, load

`python -m client_sdk --help` does the same from a terminal. The names below are the public ones.
Each is imported when it is first used, so that `import client_sdk` does not import PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client_sdk.api.client import CoordinatorClient
    from client_sdk.data.dataset import Dataset
    from client_sdk.data.datasets import load
    from client_sdk.engines.processes import TrainingPool
    from client_sdk.errors import (
        BadAnswer,
        BadSettings,
        ClientError,
        CoordinatorUnreachable,
        CorruptDownload,
        DataError,
        DirectRefused,
        NotAuthorised,
        NotThere,
        RequestRefused,
        StateConflict,
        TrainingFailed,
    )
    from client_sdk.participant import Event, Participant, Turn
    from client_sdk.simulation.embedded import EmbeddedCoordinator
    from client_sdk.simulation.outcome import Outcome, Row
    from client_sdk.simulation.simulate import Simulation, Watchers
    from client_sdk.task.models import ModelSpec, TwoLayerCNN, spec_for
    from client_sdk.tools.export import export
    from client_sdk.tools.predict import predict
    from client_sdk.tools.verify import verify

__all__ = [
    "BadAnswer",
    "BadSettings",
    "ClientError",
    "CoordinatorClient",
    "CoordinatorUnreachable",
    "CorruptDownload",
    "DataError",
    "Dataset",
    "DirectRefused",
    "EmbeddedCoordinator",
    "Event",
    "ModelSpec",
    "NotAuthorised",
    "NotThere",
    "Outcome",
    "Participant",
    "RequestRefused",
    "Row",
    "Simulation",
    "StateConflict",
    "TrainingFailed",
    "TrainingPool",
    "Turn",
    "TwoLayerCNN",
    "Watchers",
    "export",
    "load",
    "predict",
    "spec_for",
    "verify",
]

_MODULES = {
    "client_sdk.api.client": ("CoordinatorClient",),
    "client_sdk.data.dataset": ("Dataset",),
    "client_sdk.data.datasets": ("load",),
    "client_sdk.engines.processes": ("TrainingPool",),
    "client_sdk.errors": (
        *("BadAnswer", "BadSettings", "ClientError", "CoordinatorUnreachable", "CorruptDownload"),
        *("DataError", "DirectRefused", "NotAuthorised", "NotThere", "RequestRefused"),
        *("StateConflict", "TrainingFailed"),
    ),
    "client_sdk.participant": ("Event", "Participant", "Turn"),
    "client_sdk.simulation.embedded": ("EmbeddedCoordinator",),
    "client_sdk.simulation.outcome": ("Outcome", "Row"),
    "client_sdk.simulation.simulate": ("Simulation", "Watchers"),
    "client_sdk.task.models": ("ModelSpec", "TwoLayerCNN", "spec_for"),
    "client_sdk.tools.export": ("export",),
    "client_sdk.tools.predict": ("predict",),
    "client_sdk.tools.verify": ("verify",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
