"""A client as a function: it wakes, takes one turn of `join` and sleeps.

AWS Lambda calls `handler`, OpenWhisk `main`; a schedule says when, or the coordinator, by a request
or a message that `wake_up` checks. Whose client it is stands in the function's settings alone, its
environment or (OpenWhisk) the parameters bound to the action. What wakes it up cannot change that.

- FL_JOIN: the arguments of `join`, as a shell reads them. A word `s3://BUCKET/KEY` is an object of
  the party's own bucket and `s3://BUCKET/FOLDER/` a folder: the function copies them to its disk,
  and again when they change.
- FL_SECRET_ID: a secret of Secrets Manager, or of SSM if it begins with a slash, whose JSON has
  FL_ENROL_KEY and FL_CLIENT_KEY. Without it these two are settings themselves.
- FL_WAKE_URL: where the coordinator wakes this function up, as `join --wake-url` takes it.
- FL_STATE_DIR: a folder that outlasts the container, such as a mount of EFS. The client needs it
  under secure aggregation, and for SCAFFOLD, FedDyn and `--identity`.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client_sdk import exit_codes
from client_sdk.cli import command_line
from client_sdk.cli.arguments import make_parser
from client_sdk.entry import bucket, wake_up
from client_sdk.errors import UsageError
from serverless_fl.aws_secret import fetch_secret
from serverless_fl.domain.signed_messages import NotGenuine

OF_THE_SECRET = ("FL_ENROL_KEY", "FL_CLIENT_KEY")
SCRATCH = Path(tempfile.gettempdir()) / "serverless-fl"  # the only place that Lambda lets us write
_OURS = frozenset({"--once", "--key-file", "--out", "--wake-url"})  # the function decides these


def handler(event: Any, context: Any) -> dict[str, Any]:
    """AWS Lambda's entry: take one turn. Raises RuntimeError where `join` fails.

    A request without the coordinator's signature is answered with 401, and a message of SNS without
    it is a RuntimeError; the client then does nothing.
    """
    return _answer(event, os.environ)


def main(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """OpenWhisk's entry: take one turn, as `handler`. As a web action it must be a raw one."""
    bound = {name: str(value) for name, value in arguments.items() if name.startswith("FL_")}
    return _answer(arguments, os.environ | bound)


def _answer(event: Any, settings: Mapping[str, str]) -> dict[str, Any]:
    """Check who wakes this function up, and take a turn. A request gets no text of the turn."""
    try:
        request = wake_up.request_of(event)
        for message in [request] if request else wake_up.topic_messages(event):
            _require_genuine(message, settings)
    except NotGenuine as error:
        print(f"Not woken up: {error}", file=sys.stderr, flush=True)
        if wake_up.is_request(event):
            return {"statusCode": 401, "body": str(error)}
        raise RuntimeError(str(error)) from None
    taken = take_turn(settings)
    return {"statusCode": 204} if request else taken


def _require_genuine(message: wake_up.Message, settings: Mapping[str, str]) -> None:
    """Raises NotGenuine; RuntimeError for settings with which no turn can be taken."""
    try:
        words, keys = _words(settings), _keys(settings)
    except (UsageError, ValueError) as error:
        raise RuntimeError(str(error)) from None
    wake_up.require_genuine(message, keys["FL_CLIENT_KEY"], _experiment(words))


def _experiment(words: list[str]) -> str:
    """The experiment that the arguments of `join` name. Raises RuntimeError."""
    faults = io.StringIO()
    try:
        with contextlib.redirect_stderr(faults):
            return str(make_parser().parse_args(["join", *words]).experiment)
    except (SystemExit, UsageError) as error:
        raise RuntimeError(faults.getvalue().strip() or str(error)) from None


def take_turn(settings: Mapping[str, str]) -> dict[str, Any]:
    """Enrol, or find the client again, and take one turn.

    Gives the lines that `join` prints, as `said`, and its exit code: 0, or that of an experiment
    that ended otherwise. Raises RuntimeError for all that a schedule should count as an error.
    """
    try:
        words = _words(settings)
        keys = _keys(settings)
    except (UsageError, ValueError) as error:
        raise RuntimeError(str(error)) from None
    folder = Path(settings.get("FL_STATE_DIR") or SCRATCH)
    key_file = _write_key(folder, keys["FL_CLIENT_KEY"])
    local = [
        bucket.copy(word, SCRATCH / "data") if bucket.is_place(word) else word for word in words
    ]
    command = ["join", *local, "--once", "--key-file", str(key_file)]
    command += ["--enrol-key", keys["FL_ENROL_KEY"]]
    if address := settings.get("FL_WAKE_URL"):
        command += ["--wake-url", address]
    code, said, faults = _run(command)
    print(said, end="", flush=True)  # the function's log
    print(faults, end="", file=sys.stderr, flush=True)
    if code not in (0, exit_codes.FAILED, exit_codes.STOPPED, exit_codes.IGNORED):
        raise RuntimeError(faults.strip() or f"join ended with exit code {code}.")
    return {"exit_code": code, "said": said.splitlines()}


def _words(settings: Mapping[str, str]) -> list[str]:
    """The arguments of FL_JOIN. Raises UsageError, ValueError."""
    try:
        words = shlex.split(settings.get("FL_JOIN", ""))
    except ValueError as error:
        raise UsageError(f"FL_JOIN cannot be read as a shell would: {error}.") from None
    if not words:
        raise UsageError("FL_JOIN is missing: the arguments of join, such as --server URL ...")
    if taken := sorted({word.partition("=")[0] for word in words} & _OURS):
        raise UsageError(f"FL_JOIN holds {taken[0]}, which the function gives itself.")
    return words


def _keys(settings: Mapping[str, str]) -> dict[str, str]:
    """The enrolment key and the client's key. Raises UsageError; RuntimeError for a secret."""
    found: Mapping[str, str] = settings
    if secret := settings.get("FL_SECRET_ID"):
        found = fetch_secret(secret)
    if lacking := [name for name in OF_THE_SECRET if not found.get(name)]:
        raise UsageError(
            f"{lacking[0]} is missing: it is a setting, or in the secret of FL_SECRET_ID."
        )
    return {name: found[name] for name in OF_THE_SECRET}


def _write_key(folder: Path, client_key: str) -> Path:
    """The key file for `join`, beside which it keeps what a client remembers."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "client.key"
    if not path.exists() or path.read_text(encoding="utf-8") != client_key:
        path.touch(0o600)
        path.write_text(client_key, encoding="utf-8")
    return path


def _run(command: list[str]) -> tuple[int, str, str]:
    """Run a command line; gives its exit code and what it writes."""
    said, faults = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(faults):
        try:
            code = command_line.run(command)
        except SystemExit as end:  # of argparse, for an argument that is wrong
            code = end.code if isinstance(end.code, int) else exit_codes.USAGE
    return code, said.getvalue(), faults.getvalue()
