"""The command `export`: a global model as a file that other programs read."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from client_sdk.api.client import CoordinatorClient
from client_sdk.cli import own_task
from client_sdk.errors import UsageError
from client_sdk.results.console import Output, human_bytes
from client_sdk.results.files import write_output
from client_sdk.task.model_file import read_file
from client_sdk.tools.export import export, export_task
from client_sdk.tools.exporters import format_of


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Write a model from a file or from a coordinator in another format."""
    torch.set_num_threads(1)
    form = arguments.format or format_of(arguments.out)
    if form is None:
        raise UsageError(f"The name {arguments.out} leaves open which --format: give one.")
    if arguments.server:
        data, whose = await _download(arguments, console)
    else:
        data, whose = _read(arguments)
    if arguments.task is not None:
        exported = _of_own_task(arguments, data, form)
    else:
        exported = export(data, form, normalise=arguments.normalise, whose=whose)
    write_output(arguments.out, exported)
    console.say(f"wrote {arguments.out}: {form}, {human_bytes(len(exported))}")
    return 0


def _of_own_task(arguments: argparse.Namespace, data: bytes, form: str) -> bytes:
    """A model of a user's own task in another form. Raises UsageError, DataError."""
    task = own_task.load_task(arguments.task)
    reads = getattr(task, "reads", None)
    if arguments.normalise:
        raise UsageError("--normalise is for pictures and tables, not for a --task.")

    def example() -> Any:
        if arguments.like is None or reads is None:
            raise UsageError(
                "--task needs --like, two inputs or more in a file that the task reads."
            )
        return reads(arguments.like)

    return export_task(task, data, form, example)


def _read(arguments: argparse.Namespace) -> tuple[bytes, str]:
    """The bytes of a model's file, and its name for messages. Raises UsageError, DataError."""
    if arguments.experiment or arguments.version is not None:
        raise UsageError("--experiment and --version go with --server.")
    return read_file(arguments.model), str(arguments.model)


async def _download(arguments: argparse.Namespace, console: Output) -> tuple[bytes, str]:
    """A coordinator's model, and a name of it for messages. Raises UsageError, ClientError."""
    if not arguments.experiment:
        raise UsageError("--server needs the --experiment.")
    if not arguments.key:
        raise UsageError("--server needs a key: set FL_ADMIN_KEY or FL_ENROL_KEY.")
    async with CoordinatorClient(arguments.server, arguments.key, on_retry=console.say) as client:
        experiment = await client.experiment(arguments.experiment)
        newest = experiment.model_version or 0
        version = newest if arguments.version is None else arguments.version
        data = await client.download_model(
            experiment.id, version, experiment.part_bytes, direct=experiment.direct
        )
    return data, f"model {version} of {experiment.id}"
