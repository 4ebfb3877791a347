"""The beginning of a run: a model's file, or a model of an earlier experiment.

The run's folder keeps it, so that `--resume` needs neither the file nor the earlier experiment.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from client_sdk.api.client import CoordinatorClient
from client_sdk.errors import DataError, UsageError
from client_sdk.results import run_folder
from client_sdk.results.files import replace_file
from client_sdk.simulation.embedded import EmbeddedCoordinator
from client_sdk.task.model_file import read_file
from serverless_fl.wire.schema import ModelOrigin

MODEL, ORIGIN = "initial.safetensors", "origin.json"


@dataclass(frozen=True)
class Beginning:
    """The file of a model, what to call it in messages, and whose it is."""

    model: bytes
    whose: str
    origin: ModelOrigin | None = None

    def save(self, folder: Path) -> None:
        """Keep it in a run's folder."""
        if self.origin is not None:
            replace_file(folder / ORIGIN, self.origin.model_dump_json().encode())
        replace_file(folder / MODEL, self.model)


def kept(folder: Path) -> Beginning | None:
    """What an earlier call of the run began from; None for random weights. Raises DataError."""
    if not (folder / MODEL).exists():
        return None
    origin = None
    if (folder / ORIGIN).exists():
        try:
            origin = ModelOrigin.model_validate_json((folder / ORIGIN).read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError(f"{folder / ORIGIN} does not say whose the model is.") from error
    return Beginning(read_file(folder / MODEL), str(folder / MODEL), origin)


async def asked_for(arguments: argparse.Namespace, say: Callable[[str], None]) -> Beginning | None:
    """What the flags say; None for random weights. Raises UsageError, DataError, ClientError."""
    if arguments.initial_model is not None:
        return Beginning(read_file(arguments.initial_model), str(arguments.initial_model))
    if arguments.from_experiment is not None:
        if not arguments.server:
            raise UsageError("--from-experiment needs the --server that has it.")
        name, version = arguments.from_experiment
        async with CoordinatorClient(arguments.server, arguments.admin_key, on_retry=say) as client:
            return await _download(client, name, version)
    if arguments.from_run is not None:
        path, version = arguments.from_run
        return await _of_run(path, version, say)
    return None


async def _of_run(path: Path, version: int | None, say: Callable[[str], None]) -> Beginning:
    folder = run_folder.resume(path)
    state = path / "coordinator"
    if not state.is_dir():
        raise UsageError(
            f"The run in {path} has no coordinator of its own: give --from-experiment and the "
            "--server that has it."
        )
    with folder.locked():
        async with (
            EmbeddedCoordinator(state, folder.secrets.admin_key, on_restart=say) as coordinator,
            CoordinatorClient(coordinator.url, coordinator.admin_key, on_retry=say) as client,
        ):
            found = await client.experiments()
            if not found:
                raise UsageError(f"The run in {path} has no experiment yet.")
            return await _download(client, found[-1].id, version)


async def _download(
    client: CoordinatorClient, experiment_id: str, version: int | None
) -> Beginning:
    """A model of an experiment, the newest without a version. Raises UsageError, ClientError."""
    experiment = await client.experiment(experiment_id)
    newest = experiment.model_version
    if newest is None:
        raise UsageError(f"The experiment {experiment_id} has no model yet.")
    version = newest if version is None else version
    model = await client.download_model(
        experiment_id, version, experiment.part_bytes, direct=experiment.direct
    )
    sha256 = hashlib.sha256(model).hexdigest()
    origin = ModelOrigin(experiment=experiment_id, version=version, sha256=sha256)
    return Beginning(model, f"model {version} of {experiment_id}", origin)
