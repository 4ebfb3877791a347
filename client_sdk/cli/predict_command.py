"""The command `predict`: what a global model answers for pictures, rows of a table, own inputs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from client_sdk.cli import own_task
from client_sdk.errors import ClientError, DataError, UsageError
from client_sdk.results.console import Output
from client_sdk.task import weights_file
from client_sdk.task.agreeing import require_same
from client_sdk.task.answers import Answer
from client_sdk.task.model_file import read_file
from client_sdk.task.task import Task, Weights
from client_sdk.tools.predict import predict
from client_sdk.tools.predict_table import (
    RowPrediction,
    is_of_tables,
    predict_table,
    task_of_somebody,
)


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Print the most probable classes of each picture, or the answer for each row of a table."""
    torch.set_num_threads(1)
    if arguments.task is not None:
        return _rows(arguments, console, predict_own(arguments))
    if (own := task_of_somebody(arguments.model)) is not None:
        raise UsageError(f"The model is of a task of somebody's own, {own}: give --task.")
    if is_of_tables(arguments.model):
        found = [row for path in arguments.images for row in predict_table(path, arguments.model)]
        return _rows(arguments, console, found)
    predictions = predict(arguments.images, arguments.model, top=arguments.top)
    if arguments.json:
        print(json.dumps([{**asdict(p), "path": str(p.path)} for p in predictions], indent=2))
        return 0
    for prediction in predictions:
        others = ", ".join(f"{label} {share:.1%}" for label, share in prediction.top[1:])
        console.say(
            f"{prediction.path}: {prediction.label} {prediction.probability:.1%}"
            + (f"  (then {others})" if others else "")
        )
    return 0


def predict_own(arguments: argparse.Namespace) -> list[RowPrediction]:
    """What a user's own task answers. Raises UsageError, DataError."""
    task, model = own_task.load_task(arguments.task), read_file(arguments.model)
    require_same(task, model, "the model's file")
    weights = weights_file.read(model)
    return [
        RowPrediction(path, number, found.answer, found.probability)
        for path in arguments.images
        for number, found in enumerate(_answers(task, weights, path), 1)
    ]


def _answers(task: Task, weights: Weights, path: Path) -> Sequence[Answer]:
    """Call a user's code. Raises DataError, also where it fails."""
    try:
        return task.predict_file(weights, path)
    except (ClientError, DataError, UsageError):
        raise
    except Exception as error:
        raise DataError(
            f"{task.name} cannot read or answer {path}: {type(error).__name__}: {error}"
        ) from error


def _rows(arguments: argparse.Namespace, console: Output, found: Sequence[RowPrediction]) -> int:
    if arguments.json:
        print(json.dumps([{**asdict(row), "path": str(row.path)} for row in found], indent=2))
        return 0
    for row in found:
        answer = row.answer if isinstance(row.answer, str) else f"{row.answer:.6g}"
        share = "" if row.probability is None else f" {row.probability:.1%}"
        console.say(f"{row.path}, row {row.row}: {answer}{share}")
    return 0
