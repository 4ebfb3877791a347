"""What the CLI's commands of those who run experiments do, beside `run` itself."""

from __future__ import annotations

import argparse

from rich.console import Console

from client_sdk import exits
from client_sdk.client import CoordinatorClient


async def delete(arguments: argparse.Namespace, console: Console) -> int:
    """Delete an experiment. Nobody is asked again: the command says what it does."""
    if not arguments.admin_key:
        raise exits.UsageError("delete needs the coordinator's admin key: set FL_ADMIN_KEY.")
    say = console.print
    async with CoordinatorClient(arguments.server, arguments.admin_key, on_retry=say) as client:
        await client.delete_experiment(arguments.experiment, stop=arguments.stop)
    console.print("The experiment is deleted: its models, updates, clients and records.")
    return 0
