"""Federated learning as a client: enrol, train locally, upload; or run all clients here.

    from client_sdk import TorchTask, simulate
    from client_sdk import Participant, CoordinatorClient, LocalTrainer, Processes, load

`python -m client_sdk --help` does the same from a terminal. The names below are the public ones.
Each is imported when it is first used, so that `import client_sdk` does not import PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client_sdk.api.client import CoordinatorClient
    from client_sdk.data.data import Arrays, Data, Items, as_data
    from client_sdk.data.dataset import Dataset
    from client_sdk.data.datasets import load
    from client_sdk.engines.batched import Batched
    from client_sdk.engines.engine import Engine
    from client_sdk.engines.in_line import InLine
    from client_sdk.engines.on_ray import Ray
    from client_sdk.engines.processes import Processes
    from client_sdk.engines.trainer import LocalTrainer
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
    from client_sdk.memory.memory import Memory
    from client_sdk.participant import Event, Participant, Turn
    from client_sdk.recipes.result import SimulationResult
    from client_sdk.recipes.simulate import simulate, simulate_async
    from client_sdk.recipes.site_tables import SiteTables, read_sites
    from client_sdk.simulation.embedded import EmbeddedCoordinator
    from client_sdk.simulation.outcome import Outcome, Row
    from client_sdk.simulation.simulate import Simulation, Watchers, initial_model
    from client_sdk.task.answers import Answer
    from client_sdk.task.ditto import ditto
    from client_sdk.task.flower_task import FlowerAppTask, FlowerTask
    from client_sdk.task.function_task import FunctionTask
    from client_sdk.task.models import ModelSpec, TwoLayerCNN, spec_for
    from client_sdk.task.partly_shared import PartlyShared
    from client_sdk.task.pictures import PictureTask, picture_task
    from client_sdk.task.settings import TrainSettings
    from client_sdk.task.sklearn_task import SklearnTask
    from client_sdk.task.task import Result, Task, fingerprint
    from client_sdk.task.torch_task import TorchTask
    from client_sdk.tools.export import export
    from client_sdk.tools.predict import predict
    from client_sdk.tools.verify import verify
    from client_sdk.trust.identities import read_identity, read_pins
    from client_sdk.trust.offer import Offer, read_offer

__all__ = [
    "Answer",
    "Arrays",
    "BadAnswer",
    "BadSettings",
    "Batched",
    "ClientError",
    "CoordinatorClient",
    "CoordinatorUnreachable",
    "CorruptDownload",
    "Data",
    "DataError",
    "Dataset",
    "DirectRefused",
    "EmbeddedCoordinator",
    "Engine",
    "Event",
    "FlowerAppTask",
    "FlowerTask",
    "FunctionTask",
    "InLine",
    "Items",
    "LocalTrainer",
    "Memory",
    "ModelSpec",
    "NotAuthorised",
    "NotThere",
    "Offer",
    "Outcome",
    "Participant",
    "PartlyShared",
    "PictureTask",
    "Processes",
    "Ray",
    "RequestRefused",
    "Result",
    "Row",
    "Simulation",
    "SimulationResult",
    "SiteTables",
    "SklearnTask",
    "StateConflict",
    "Task",
    "TorchTask",
    "TrainSettings",
    "TrainingFailed",
    "Turn",
    "TwoLayerCNN",
    "Watchers",
    "as_data",
    "ditto",
    "export",
    "fingerprint",
    "initial_model",
    "load",
    "picture_task",
    "predict",
    "read_identity",
    "read_offer",
    "read_pins",
    "read_sites",
    "simulate",
    "simulate_async",
    "spec_for",
    "verify",
]

_MODULES = {
    "client_sdk.api.client": ("CoordinatorClient",),
    "client_sdk.data.data": ("Arrays", "Data", "Items", "as_data"),
    "client_sdk.data.dataset": ("Dataset",),
    "client_sdk.data.datasets": ("load",),
    "client_sdk.engines.batched": ("Batched",),
    "client_sdk.engines.engine": ("Engine",),
    "client_sdk.engines.in_line": ("InLine",),
    "client_sdk.engines.on_ray": ("Ray",),
    "client_sdk.engines.processes": ("Processes",),
    "client_sdk.engines.trainer": ("LocalTrainer",),
    "client_sdk.errors": (
        *("BadAnswer", "BadSettings", "ClientError", "CoordinatorUnreachable", "CorruptDownload"),
        *("DataError", "DirectRefused", "NotAuthorised", "NotThere", "RequestRefused"),
        *("StateConflict", "TrainingFailed"),
    ),
    "client_sdk.memory.memory": ("Memory",),
    "client_sdk.participant": ("Event", "Participant", "Turn"),
    "client_sdk.recipes.result": ("SimulationResult",),
    "client_sdk.recipes.simulate": ("simulate", "simulate_async"),
    "client_sdk.recipes.site_tables": ("SiteTables", "read_sites"),
    "client_sdk.simulation.embedded": ("EmbeddedCoordinator",),
    "client_sdk.simulation.outcome": ("Outcome", "Row"),
    "client_sdk.simulation.simulate": ("Simulation", "Watchers", "initial_model"),
    "client_sdk.task.answers": ("Answer",),
    "client_sdk.task.ditto": ("ditto",),
    "client_sdk.task.flower_task": ("FlowerAppTask", "FlowerTask"),
    "client_sdk.task.function_task": ("FunctionTask",),
    "client_sdk.task.models": ("ModelSpec", "TwoLayerCNN", "spec_for"),
    "client_sdk.task.partly_shared": ("PartlyShared",),
    "client_sdk.task.pictures": ("PictureTask", "picture_task"),
    "client_sdk.task.settings": ("TrainSettings",),
    "client_sdk.task.sklearn_task": ("SklearnTask",),
    "client_sdk.task.task": ("Result", "Task", "fingerprint"),
    "client_sdk.task.torch_task": ("TorchTask",),
    "client_sdk.tools.export": ("export",),
    "client_sdk.tools.predict": ("predict",),
    "client_sdk.tools.verify": ("verify",),
    "client_sdk.trust.identities": ("read_identity", "read_pins"),
    "client_sdk.trust.offer": ("Offer", "read_offer"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
