"""The commands that use a model: `predict` and `export`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

import torch

from client_sdk import errors, exits
from client_sdk.api.client import CoordinatorClient
from client_sdk.results import progress, report
from client_sdk.results.console import Output
from client_sdk.tools.export import FORMATS
from client_sdk.tools.export import export as convert
from client_sdk.tools.predict import predict as classify


def predict(arguments: argparse.Namespace, console: Output) -> int:
    """Print the most probable classes of each picture."""
    torch.set_num_threads(1)
    predictions = classify(arguments.images, arguments.model, top=arguments.top)
    if arguments.json:
        json.dump([{**asdict(p), "path": str(p.path)} for p in predictions], sys.stdout, indent=2)
        print()
        return 0
    for prediction in predictions:
        others = ", ".join(f"{label} {share:.1%}" for label, share in prediction.top[1:])
        console.say(
            f"{prediction.path}: {prediction.label} {prediction.probability:.1%}"
            + (f"  (then {others})" if others else "")
        )
    return 0


async def export(arguments: argparse.Namespace, console: Output) -> int:
    """Write a model from a file or from a coordinator in another format."""
    torch.set_num_threads(1)
    form = arguments.format or next(
        (f for f, suffix in FORMATS.items() if suffix == arguments.out.suffix), None
    )
    if form is None:
        raise exits.UsageError(f"The name {arguments.out} leaves open which --format: give one.")
    data, whose = await _model(arguments, console)
    made = convert(data, form, normalise=arguments.normalise, whose=whose)
    try:
        report.replace_file(arguments.out, made)
    except OSError as error:
        raise exits.UsageError(f"Cannot write {arguments.out}: {error.strerror}.") from error
    console.say(f"wrote {arguments.out}: {form}, {progress.human_bytes(len(made))}")
    return 0


async def _model(arguments: argparse.Namespace, console: Output) -> tuple[bytes, str]:
    """A model's bytes, and a name for it in messages. Raises UsageError, DataError, ClientError."""
    if not arguments.server:
        if arguments.experiment or arguments.version is not None:
            raise exits.UsageError("--experiment and --version go with --server.")
        try:
            return arguments.model.read_bytes(), str(arguments.model)
        except OSError as error:
            raise errors.DataError(
                f"The model {arguments.model} cannot be read: {error.strerror}."
            ) from error
    if not arguments.experiment:
        raise exits.UsageError("--server needs the --experiment.")
    if not arguments.key:
        raise exits.UsageError("--server needs a key: set FL_ADMIN_KEY or FL_ENROL_KEY.")
    async with CoordinatorClient(arguments.server, arguments.key, on_retry=console.say) as client:
        experiment = await client.experiment(arguments.experiment)
        newest = experiment.model_version or 0
        version = newest if arguments.version is None else arguments.version
        data = await client.download_model(
            experiment.id, version, experiment.part_bytes, direct=experiment.direct
        )
    return data, f"model {version} of {experiment.id}"
