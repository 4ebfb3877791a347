"""The command `predict`: what a global model sees in pictures."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

import torch

from client_sdk.results.console import Output
from client_sdk.tools.predict import predict


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Print the most probable classes of each picture."""
    torch.set_num_threads(1)
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
