"""The command `split`: which examples each client of a run would have."""

from __future__ import annotations

import argparse
import json

from client_sdk.cli import run_data
from client_sdk.cli.run_settings import draw_split, settle
from client_sdk.data.splits.drawing import described
from client_sdk.errors import UsageError
from client_sdk.results import split_plot, split_table
from client_sdk.results.console import Output
from client_sdk.results.files import write_output

_KINDS = (".png", ".svg")


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Print a table of the clients, and write a figure."""
    if arguments.out.suffix.lower() not in _KINDS:
        raise UsageError(f"--out ends in {' or '.join(_KINDS)}, unlike {arguments.out}.")
    data = run_data.load(arguments)
    config = settle(arguments.settings, data.examples, dataset=data.name, model=data.task.name)
    drawn = draw_split(config, data.examples)
    shares = split_table.shares_of(drawn, data.examples.labels, data.classes)
    title = f"{data.name}, {described(config.split)}"
    console.print(split_table.table(shares))
    for line in filter(None, (data.note, drawn.note, split_table.summary(shares))):
        console.say(line)
    write_output(arguments.out, split_plot.split(shares, title, arguments.out.suffix.lower()[1:]))
    console.say(f"wrote {arguments.out}")
    if arguments.json:
        print(json.dumps(split_table.as_json(shares), indent=2))
    return 0
