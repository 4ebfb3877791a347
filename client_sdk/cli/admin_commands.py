"""The commands that need the admin key of a coordinator: `verify` and `delete`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from client_sdk import exits
from client_sdk.api.client import CoordinatorClient
from client_sdk.results.console import Output, sign
from client_sdk.tools.verify import Finding
from client_sdk.tools.verify import verify as check


async def delete(arguments: argparse.Namespace, console: Output) -> int:
    """Delete an experiment, without a question: the command's name says what it does."""
    if not arguments.admin_key:
        raise exits.UsageError("delete needs the coordinator's admin key: set FL_ADMIN_KEY.")
    say = console.say
    async with CoordinatorClient(arguments.server, arguments.admin_key, on_retry=say) as client:
        await client.delete_experiment(arguments.experiment, stop=arguments.stop)
    console.say("The experiment is deleted: its models, updates, clients and records.")
    return 0


async def verify(arguments: argparse.Namespace, console: Output) -> int:
    """Check an experiment's records, and print the finding of each model version."""
    if not arguments.admin_key:
        raise exits.UsageError("verify needs the coordinator's admin key: set FL_ADMIN_KEY.")

    marks: dict[bool | None, str] = {
        True: sign(console, "✓", "ok:"),
        False: sign(console, "✗", "WRONG:"),
        None: sign(console, "·", "-"),
    }

    def show(finding: Finding) -> None:
        console.say(f"{marks[finding.good]} model {finding.version}: {finding.message}")

    say, key = console.say, arguments.admin_key
    async with CoordinatorClient(arguments.server, key, on_retry=say) as client:
        findings = await check(client, arguments.experiment, arguments.rounds, show)
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    asked = set(arguments.rounds or ())
    unknown = asked - {finding.version for finding in findings}
    if unknown:
        raise exits.UsageError(f"There is no model of round {min(unknown)}.")
    bad = sum(finding.good is False for finding in findings)
    if bad:
        console.say(f"{bad} faults")
        return exits.DIFFERS
    console.say("Everything that is still kept is as recorded.")
    gone = asked & {finding.version for finding in findings if finding.good is None}
    if gone:
        console.say(
            f"The updates of round {min(gone)} are no longer kept, so that its model cannot be "
            "recomputed (--keep-updates of the experiment says how many rounds are)."
        )
        return exits.NOT_KEPT
    return 0
