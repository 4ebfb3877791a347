"""The file of what a strategy makes the client of `join` remember: beside that of its key."""

from __future__ import annotations

import argparse

from client_sdk.api import key_file
from client_sdk.memory.memory import Memory
from serverless_fl.wire.views import ExperimentView


def memory_of(arguments: argparse.Namespace, experiment: ExperimentView) -> Memory:
    """The client's memory of this experiment. Nothing is written before a strategy needs it."""
    owner = arguments.server, arguments.experiment, arguments.name
    key = arguments.key_file or key_file.default_path(*owner)
    return Memory(key.with_name(f"{key.name}-{experiment.id}.memory"))
