"""Output that never fails for a letter: whatever the terminal or the log can hold is printed."""

from __future__ import annotations

import io
import os
import sys

from rich.console import Console
from rich.text import Text


def forgive(*streams: object) -> None:
    """Print as an escape what the stream's encoding lacks, where Python would raise."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def sign(console: Console, wanted: str, plain: str) -> str:
    """`wanted`, or `plain` where the console's encoding lacks it."""
    try:
        wanted.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return plain
    return wanted


class Output(Console):
    """The console of a command. A log has no edge: lines are as long as they are there."""

    def __init__(self, *, to_stderr: bool) -> None:
        super().__init__(stderr=to_stderr, highlight=False)
        if not self.is_terminal:
            self.width = 120

    def say(self, message: str) -> None:
        """Print a line as it is: what comes from others is no markup, and is not cut."""
        self.print(Text(message), soft_wrap=True)

    def on_broken_pipe(self) -> None:
        """Rich would exit with code 1, which says here that an experiment failed."""
        self.quiet = True
        raise BrokenPipeError("the output was closed")


def let_go_of_stdout() -> None:
    """Nobody reads it any more: let the interpreter's end write into nothing."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
