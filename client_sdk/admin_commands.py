"""What the CLI's commands of those who run experiments do, beside `run` itself."""

from __future__ import annotations

import argparse

from client_sdk import exits
from client_sdk.client import CoordinatorClient
from client_sdk.console import Output


async def delete(arguments: argparse.Namespace, console: Output) -> int:
    """Delete an experiment. Nobody is asked again: the command says what it does."""
    if not arguments.admin_key:
        raise exits.UsageError("delete needs the coordinator's admin key: set FL_ADMIN_KEY.")
    say = console.say
    async with CoordinatorClient(arguments.server, arguments.admin_key, on_retry=say) as client:
        await client.delete_experiment(arguments.experiment, stop=arguments.stop)
    console.say("The experiment is deleted: its models, updates, clients and records.")
    return 0
