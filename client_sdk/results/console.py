"""The console of a command. It prints any text in any encoding.

A text may be a stranger's: a reason, a name, a class of somebody's model. It is printed as it is,
without markup and without control characters.
"""

from __future__ import annotations

import io
import os
import sys

from rich.console import Console
from rich.text import Text

from serverless_fl.wire.text import clean

LONGEST = 20_000  # characters of a line


def escape_unprintable(*streams: object) -> None:
    """From now on print letters that a stream's encoding lacks as escapes; Python would raise."""
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
    """A stranger's text as Rich prints it: without markup and control characters."""
    return Text(clean(text, LONGEST), style=style)


class Output(Console):
    """The console of a command. In a log, which has no edge, tables are 120 characters wide."""

    def __init__(self, *, to_stderr: bool) -> None:
        super().__init__(stderr=to_stderr, highlight=False)
        if not self.is_terminal:
            self.width = 120

    def say(self, message: str, style: str = "") -> None:
        """Print one line; the terminal wraps it."""
        self.print(shown(message, style), soft_wrap=True)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError. Rich would exit with 1, the code of a failed experiment."""
        self.quiet = True
        raise BrokenPipeError("the output was closed")


def let_go_of_stdout() -> None:
    """Send what the interpreter still flushes to the null device: nobody reads the output now."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
