"""The command `verify`: an experiment's models, recomputed from the coordinator's records."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

from client_sdk import exit_codes
from client_sdk.api.client import CoordinatorClient
from client_sdk.errors import UsageError
from client_sdk.results.console import Output, printable
from client_sdk.tools.verify import Finding, verify


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Check an experiment's records, and print the finding of each model version."""
    key, say = arguments.admin_key, console.say
    if not key:
        raise UsageError("verify needs the coordinator's admin key: set FL_ADMIN_KEY.")
    async with CoordinatorClient(arguments.server, key, on_retry=say) as client:
        findings = await verify(client, arguments.experiment, arguments.rounds, _printer(console))
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    return _conclude(findings, set(arguments.rounds or ()), say)


def _printer(console: Output) -> Callable[[Finding], None]:
    marks: dict[bool | None, str] = {
        True: printable(console, "✓", "ok:"),
        False: printable(console, "✗", "WRONG:"),
        None: printable(console, "·", "-"),
    }

    def show(finding: Finding) -> None:
        console.say(f"{marks[finding.good]} model {finding.version}: {finding.message}")

    return show


def _conclude(findings: Sequence[Finding], asked: set[int], say: Callable[[str], None]) -> int:
    """Print the result; gives the exit code. Raises UsageError for a round that has no model."""
    unknown = asked - {finding.version for finding in findings}
    if unknown:
        raise UsageError(f"There is no model of round {min(unknown)}.")
    faults = sum(finding.good is False for finding in findings)
    if faults:
        say(f"{faults} faults")
        return exit_codes.DIFFERS
    say("Everything that is still kept is as recorded.")
    gone = asked & {finding.version for finding in findings if finding.good is None}
    if gone:
        say(
            f"The updates of round {min(gone)} are no longer kept, so that its model cannot be "
            "recomputed (--keep-updates of the experiment says how many rounds are)."
        )
        return exit_codes.NOT_KEPT
    return 0
