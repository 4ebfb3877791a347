"""Runs a command of `python -m client_sdk`: its arguments, its errors, its exit code."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import sys
from pathlib import Path

from pydantic import ValidationError

from client_sdk import errors, exit_codes, hints, interrupts
from client_sdk.cli.arguments import make_parser
from client_sdk.cli.error_log import describe_os_error, log_unexpected
from client_sdk.cli.parser import COMMANDS
from client_sdk.cli.settings import Given
from client_sdk.engines import fork_server
from client_sdk.results.console import MAX_LINE, Output, discard_stdout, escape_unprintable
from serverless_fl import __version__, tracing
from serverless_fl.alternatives import first_fault
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
        code = _run_guarded(arguments, console)
        sys.stdout.flush()  # a closed pipe raises here, where it can still be reported
    except BrokenPipeError:
        discard_stdout()
        _print_error(f"The output was closed. {interrupts.sentence()}")
        return interrupts.EXIT_CODE
    return code


def _run_guarded(arguments: argparse.Namespace, console: Output) -> int:
    """Run the command. Each error becomes one sentence and a code of `exit_codes`."""
    try:
        return _dispatch(arguments, console)
    except (KeyboardInterrupt, asyncio.CancelledError):
        _print_error(interrupts.sentence())
        return interrupts.EXIT_CODE
    except errors.RequestRefused as error:
        return _explain_refusal(error, getattr(arguments, "settings", None))
    except errors.ClientError as error:
        _print_error(str(error))
        return exit_codes.UNREACHABLE
    except errors.TrainingFailed as error:
        _print_error(str(error))
        return exit_codes.TRAINING
    except ValidationError as error:
        _print_error(first_fault(error))
    except (errors.UsageError, errors.DataError, errors.BadSettings, InvalidConfig) as error:
        _print_error(str(error))
    except ModuleNotFoundError as error:
        _print_error(hints.missing(error.name))
    except MemoryError:
        _print_error("This machine has not enough memory for that.")
    except BrokenPipeError:
        raise
    except OSError as error:
        _print_error(describe_os_error(error))
    except Exception as error:
        out: Path | None = getattr(arguments, "out", None)
        folder = out if out is not None and out.is_dir() else Path()
        _print_error(log_unexpected(error, folder))
        return exit_codes.UNFORESEEN
    return exit_codes.USAGE


def _dispatch(arguments: argparse.Namespace, console: Output) -> int:
    """Run `execute` of the command's own module.

    Only that module is imported: `--help`, a mistyped option, verify and delete do not wait for
    PyTorch.
    """
    # This process and the fork server import PyTorch side by side. A coordinator elsewhere may
    # refuse the run.
    if arguments.command == "run" and not arguments.server:
        fork_server.start(fork_server.PICTURES)
    module = importlib.import_module(f"client_sdk.cli.{arguments.command}_command")
    if arguments.command in ("run", "join"):
        _begin_to_trace()
    try:
        code: int = asyncio.run(module.execute(arguments, console))
    finally:
        tracing.stop()
    return code


def _begin_to_trace() -> None:
    """Send spans where the coordinator's own variables say, or OpenTelemetry's."""
    variables = ("FL_OTEL_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    endpoint = next((os.environ[name] for name in variables if os.environ.get(name)), None)
    if endpoint is None:
        return
    try:
        tracing.start(endpoint, __version__, "serverless-fl-client", "client,otel")
    except RuntimeError as error:  # the variable may be meant for another program
        print(f"No traces: {error}", file=sys.stderr)


def _explain_refusal(error: errors.RequestRefused, given: Given | None) -> int:
    """Print why the coordinator refuses, in the words of this command; gives the exit code."""
    if error.code == "budget-reached":
        flag = "--budget-epsilon" if "budget_epsilon" in error.detail else "--budget-usd"
        _print_error(f"{error.detail} With run: a higher {flag}.")
        return exit_codes.PAUSED
    if error.code == "idempotency-key-reused":
        _print_error(
            "The run in that folder was made with other settings, or its experiment was "
            "deleted: give the same settings (--rounds, --budget-usd and --budget-epsilon may be "
            "higher), or another --out."
        )
        return exit_codes.USAGE
    detail = given.in_own_words(error.detail) if given else error.detail
    _print_error(f"The coordinator refused: {detail} ({error.code})")
    return exit_codes.UNREACHABLE if error.status >= 500 else exit_codes.REFUSED


def _print_error(message: str) -> None:
    # The SDK's own sentences may have several lines. A stranger's words may be in any of them, so
    # `clean` removes what moves a terminal's cursor.
    lines = [clean(line, MAX_LINE) for line in f"error: {message}".split("\n")]
    print("\n".join(lines), file=sys.stderr)
