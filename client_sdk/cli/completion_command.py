"""The command `completion`: a script that completes `serverless-fl` in a shell."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from client_sdk import hints
from client_sdk.cli import values
from client_sdk.cli.arguments import make_parser
from client_sdk.cli.run_settings import RunSettings
from client_sdk.errors import UsageError
from client_sdk.results.console import Output
from serverless_fl.wire.settings import settings_of

_SETTINGS = settings_of(RunSettings)
_PATHS = (values.path, values.run_place)
_CHOICES = re.compile(r"\{(\w[\w,.-]*)\}")  # as a metavar shows them


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Print the script. Raises UsageError where shtab, which writes it, is not installed."""
    print(script(arguments.shell))
    return 0


def script(shell: str) -> str:
    """The text for `shell`: commands, options and files. Raises UsageError."""
    try:
        import shtab
    except ModuleNotFoundError as error:
        how = hints.install("serverless-fl[completion]")
        raise UsageError(f"completion needs another package: {how}") from error
    parser = make_parser()
    parser.prog = hints.SCRIPT  # a shell completes a bare command, not a module of Python
    for action in _actions(parser):
        if action.type in _PATHS:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        if action.choices is None:  # our own readers of words have none
            action.choices = _choices(action) or None
    return str(shtab.complete(parser, shell))


def _choices(action: argparse.Action) -> list[str]:
    """The words that an option takes, if they are few and known."""
    if found := _CHOICES.fullmatch(str(action.metavar)):
        return found[1].split(",")
    flags = (flag.removeprefix("--").replace("-", "_") for flag in action.option_strings)
    known = (_SETTINGS[flag] for flag in flags if flag in _SETTINGS)
    return [one.name for setting in known for one in setting.alternatives]


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
