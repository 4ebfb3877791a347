"""The command `open`: the page of a run that has ended."""

from __future__ import annotations

import argparse
import json
from contextlib import AsyncExitStack
from pathlib import Path

from client_sdk import interrupts
from client_sdk.cli import serving
from client_sdk.errors import UsageError
from client_sdk.results import run_folder
from client_sdk.results.console import Output


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Serve the coordinator of the run's folder on this machine, until Ctrl-C.

    A run that has not ended is refused: the coordinator would close its rounds without clients.
    """
    folder = run_folder.resume(arguments.run, "open")
    experiment = _experiment_of(folder.path)
    with folder.locked(), interrupts.cancelling():
        async with AsyncExitStack() as stack:
            helper = None
            if serving.has_helper(folder):  # `verify` at this coordinator needs it
                helper = await serving.start_helper(stack, folder, console.say)
            coordinator = await serving.start_coordinator(stack, folder, console.say, helper)
            console.say(f"open {serving.page_of(coordinator.url, experiment)} to look at the run")
            console.say(serving.about_key(folder.path))
            await serving.until_interrupted()
    return 0


def _experiment_of(folder: Path) -> str:
    """The id of the experiment that the report in a run's folder is about. Raises UsageError."""
    if not (folder / "coordinator").is_dir():
        raise UsageError(
            f"The run in {folder} had no coordinator of its own: the one at its --server has the "
            "page."
        )
    try:
        report = json.loads((folder / "report.json").read_bytes())
        return str(report["experiment"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"The run in {folder} has no report, because it has not ended: run --resume "
            f"--out {folder} goes on with it."
        ) from error
