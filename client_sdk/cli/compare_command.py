"""The command `compare`: finished runs side by side."""

from __future__ import annotations

import argparse
import json

from client_sdk.results import comparison, plots
from client_sdk.results.console import Output
from client_sdk.results.files import write_output


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Print a table of the runs, and write a figure of their curves."""
    runs = comparison.with_own_labels([comparison.read(path) for path in arguments.runs])
    metric = comparison.choose_metric(runs, arguments.metric)
    found = list(comparison.summaries(runs, metric))
    console.print(comparison.table(found))
    write_output(arguments.out, plots.comparison(runs, metric))
    console.say(f"wrote {arguments.out}")
    if arguments.json:
        print(json.dumps(found, indent=2))
    return 0
