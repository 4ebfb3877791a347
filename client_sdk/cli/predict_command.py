"""The command `predict`: what a global model sees in pictures, or in the rows of a table."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

import torch

from client_sdk.results.console import Output
from client_sdk.tools.predict import predict
from client_sdk.tools.predict_table import is_of_tables, predict_table


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Print the most probable classes of each picture, or the answer for each row of a table."""
    torch.set_num_threads(1)
    if is_of_tables(arguments.model):
        return _rows(arguments, console)
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


def _rows(arguments: argparse.Namespace, console: Output) -> int:
    found = [row for path in arguments.images for row in predict_table(path, arguments.model)]
    if arguments.json:
        print(json.dumps([{**asdict(row), "path": str(row.path)} for row in found], indent=2))
        return 0
    for row in found:
        answer = row.answer if isinstance(row.answer, str) else f"{row.answer:.6g}"
        share = "" if row.probability is None else f" {row.probability:.1%}"
        console.say(f"{row.path}, row {row.row}: {answer}{share}")
    return 0
