"""The consent of `join`: shows what a client is asked to take part in, and waits for a yes."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Literal

from client_sdk.errors import UsageError
from client_sdk.results.console import Output
from client_sdk.task.durable_file import replace_durably
from client_sdk.trust.limits import Limits
from client_sdk.trust.offer import Offer

_LONGEST = 64 * 1024  # bytes


def require_consent(
    arguments: argparse.Namespace, console: Output, offer: Offer, limits: Limits, kept: Path
) -> None:
    """Show an offer, and give back control if it is accepted. `kept` remembers a yes for restarts.

    Raises UsageError for an offer that exceeds the client's own limits, or is not accepted. A
    command without a terminal and without --accept was started for this experiment by somebody who
    knew it, and goes on (docs/decisions/0052).
    """
    for line in offer.lines:
        console.say(line)
    if fault := limits.fault(offer.view):
        raise UsageError(fault)
    accept: Path | Literal[True] | None = arguments.accept  # True: without a file
    if accept is True or (accept is None and offer.digest in _digests(kept)):
        return
    if accept is not None:
        if offer.digest not in _digests(accept, must=True):
            raise UsageError(
                f"{accept} does not have the digest of this offer, {offer.digest}: the experiment "
                "is another than the one that was accepted. Read it above, and write the digest "
                "there if you accept it."
            )
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    if not _ask():
        raise UsageError("Not accepted: this client has not enrolled.")
    try:
        replace_durably(kept, f"{offer.digest}\n".encode())
    except OSError as error:
        console.say(f"This yes is not remembered: {kept}: {error.strerror or error}.")


def _ask() -> bool:
    # Ctrl-C ends the question: asyncio's own handler would wait for the answer.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input("Take part? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
    finally:
        signal.signal(signal.SIGINT, handler)


def _digests(path: Path, *, must: bool = False) -> set[str]:
    """The first words of a file's lines. Raises UsageError for a file that `must` be there."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST).decode("ascii", "replace")
    except OSError as error:
        if must:
            raise UsageError(f"{path}: {error.strerror or error}.") from error
        return set()
    return {line.split()[0].lower() for line in text.splitlines() if line.strip()}
