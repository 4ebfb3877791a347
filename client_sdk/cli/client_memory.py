"""The files of what the client of `join` remembers: beside that of its key."""

from __future__ import annotations

import argparse
from pathlib import Path

from client_sdk.api import key_file
from client_sdk.memory.memory import Memory
from serverless_fl.wire.views import ExperimentView


def memory_of(arguments: argparse.Namespace, experiment: ExperimentView) -> Memory:
    """The client's memory of this experiment. Nothing is written before a strategy needs it."""
    return Memory(beside_key(arguments, experiment, "memory"))


def beside_key(arguments: argparse.Namespace, experiment: ExperimentView, suffix: str) -> Path:
    """The place of a file of this client and experiment, beside that of its key."""
    owner = arguments.server, arguments.experiment, arguments.name
    key = arguments.key_file or key_file.default_path(*owner)
    return key.with_name(f"{key.name}-{experiment.id}.{suffix}")
