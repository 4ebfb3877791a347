"""The command `delete`: an experiment with its models, updates, clients and records."""

from __future__ import annotations

import argparse

from client_sdk.api.client import CoordinatorClient
from client_sdk.errors import UsageError
from client_sdk.results.console import Output


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Delete an experiment, without a question: the command's name says what it does."""
    key, say = arguments.admin_key, console.say
    if not key:
        raise UsageError("delete needs the coordinator's admin key: set FL_ADMIN_KEY.")
    async with CoordinatorClient(arguments.server, key, on_retry=say) as client:
        await client.delete_experiment(arguments.experiment, stop=arguments.stop)
    say("The experiment is deleted: its models, updates, clients and records.")
    return 0
