"""The console of a command. It prints any text in any encoding.

A stranger may have written the text: a reason, a name, a class of somebody's model. The console
removes control characters and does not interpret markup.
"""

from __future__ import annotations

import io
import os
import sys

from rich.console import Console
from rich.text import Text

from serverless_fl.wire.text import clean

MAX_LINE = 20_000  # characters


def escape_unprintable(*streams: object) -> None:
    """Make the streams print letters that their encoding lacks as escapes; Python would raise."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def printable(console: Console, wanted: str, plain: str) -> str:
    """`wanted`, or `plain` where the console's encoding lacks it."""
    try:
        wanted.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return plain
    return wanted


def plain_text(text: str, style: str = "") -> Text:
    """A text for Rich, which interprets no markup in it; without control characters."""
    return Text(clean(text, MAX_LINE), style=style)


def human_bytes(count: float) -> str:
    """Write a number of bytes for people: `12.6 MB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def print_line(console: Console, message: str, style: str = "") -> None:
    """Print one line; the terminal wraps it."""
    console.print(plain_text(message, style), soft_wrap=True)


class Output(Console):
    """The console of a command. In a log, which has no edge, tables are 120 characters wide."""

    def __init__(self, *, to_stderr: bool) -> None:
        super().__init__(stderr=to_stderr, highlight=False)
        if not self.is_terminal:
            self.width = 120

    def say(self, message: str, style: str = "") -> None:
        print_line(self, message, style)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError. Rich would exit with 1, the code of a failed experiment."""
        self.quiet = True
        raise BrokenPipeError("the output was closed")


def discard_stdout() -> None:
    """Send standard output to the null device: nobody reads it now, and Python still flushes it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
