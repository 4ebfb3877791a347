"""Output that never fails for a letter: whatever the terminal or the log can hold is printed.

What is printed may be a stranger's: a reason, a name, a class of somebody's model. It is no markup,
and it has no control characters.
"""

from __future__ import annotations

import io
import os
import sys

from rich.console import Console
from rich.text import Text

from app.wire.text import clean

LONGEST = 20_000  # characters of a line


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


def shown(text: str, style: str = "") -> Text:
    """Text that may be a stranger's, as a part of what is printed."""
    return Text(clean(text, LONGEST), style=style)


class Output(Console):
    """The console of a command. A log has no edge: lines are as long as they are there."""

    def __init__(self, *, to_stderr: bool) -> None:
        super().__init__(stderr=to_stderr, highlight=False)
        if not self.is_terminal:
            self.width = 120

    def say(self, message: str, style: str = "") -> None:
        """Print one line, which the terminal's edge does not cut."""
        self.print(shown(message, style), soft_wrap=True)

    def on_broken_pipe(self) -> None:
        """Rich would exit with code 1, which says here that an experiment failed."""
        self.quiet = True
        raise BrokenPipeError("the output was closed")


def let_go_of_stdout() -> None:
    """Nobody reads it any more: let the interpreter's end write into nothing."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
