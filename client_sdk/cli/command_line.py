"""Runs a command of `python -m client_sdk`: its arguments, its errors, its exit code."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from pydantic import ValidationError

from client_sdk import errors, exits, hints, interrupts
from client_sdk.cli import unforeseen
from client_sdk.cli.arguments import COMMANDS, make_parser
from client_sdk.results.console import LONGEST, Output, escape_unprintable, let_go_of_stdout
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.wire.text import clean


def run(argv: list[str]) -> int:
    """Run a command line and return its exit code. An error is printed as one sentence."""
    if not argv or (argv[0] not in COMMANDS and argv[0] not in ("-h", "--help")):
        argv = ["run", *argv]  # the main job needs no name
    escape_unprintable(sys.stdout, sys.stderr)
    arguments = make_parser().parse_args(argv)
    console = Output(to_stderr=bool(getattr(arguments, "json", False)))
    try:
        code = _guarded(arguments, console)
        sys.stdout.flush()  # a closed pipe raises here, where it can still be reported
    except BrokenPipeError:
        let_go_of_stdout()
        _complain(f"The output was closed. {interrupts.sentence()}")
        return interrupts.EXIT_CODE
    return code


def _guarded(arguments: argparse.Namespace, console: Output) -> int:
    """Run the command. Each error becomes one sentence and a code of `exits`."""
    try:
        return _dispatch(arguments, console)
    except (KeyboardInterrupt, asyncio.CancelledError):
        _complain(interrupts.sentence())
        return interrupts.EXIT_CODE
    except errors.RequestRefused as error:
        return _refused(error)
    except errors.ClientError as error:
        _complain(str(error))
        return exits.UNREACHABLE
    except errors.TrainingFailed as error:
        _complain(str(error))
        return exits.TRAINING
    except ValidationError as error:
        first = error.errors()[0]
        _complain(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except (exits.UsageError, InvalidConfig, errors.DataError, errors.BadSettings) as error:
        _complain(str(error))
    except ModuleNotFoundError as error:
        _complain(hints.missing(error.name))
    except MemoryError:
        _complain("This machine has not enough memory for that.")
    except BrokenPipeError:
        raise
    except OSError as error:
        _complain(unforeseen.of_system(error))
    except Exception as error:
        beside: Path | None = getattr(arguments, "out", None)
        folder = beside if beside is not None and beside.is_dir() else Path()
        _complain(unforeseen.record(error, folder))
        return exits.UNFORESEEN
    return exits.USAGE


def _refused(error: errors.RequestRefused) -> int:
    """Say why the coordinator refuses, in the words of this command; gives the code."""
    if error.code == "budget-reached":
        _complain(f"{error.detail} With run: a higher --budget-usd.")
        return exits.PAUSED
    if error.code == "idempotency-key-reused":
        _complain(
            "The run in that folder was made with other settings, or its experiment was "
            "deleted: give the same settings (--budget-usd may be higher), or another --out."
        )
        return exits.USAGE
    _complain(f"The coordinator refused: {error.detail} ({error.code})")
    return exits.UNREACHABLE if error.status >= 500 else exits.REFUSED


def _dispatch(arguments: argparse.Namespace, console: Output) -> int:
    # Each command imports what it needs: `--help`, a mistyped option, verify and delete do not wait
    # for PyTorch.
    match arguments.command:
        case "run":
            from client_sdk.cli import commands

            return asyncio.run(commands.simulate(arguments, console))
        case "join":
            from client_sdk.cli import join_command

            return asyncio.run(join_command.join(arguments, console))
        case "predict":
            from client_sdk.cli import model_commands

            return model_commands.predict(arguments, console)
        case "export":
            from client_sdk.cli import model_commands

            return asyncio.run(model_commands.export(arguments, console))
        case "verify":
            from client_sdk.cli import admin_commands

            return asyncio.run(admin_commands.verify(arguments, console))
        case _:
            from client_sdk.cli import admin_commands

            return asyncio.run(admin_commands.delete(arguments, console))


def _complain(message: str) -> None:
    # Our own sentences may have several lines. `clean` takes out of each what moves a terminal's
    # cursor, since a stranger's words may be in it.
    lines = [clean(line, LONGEST) for line in f"error: {message}".split("\n")]
    print("\n".join(lines), file=sys.stderr)
