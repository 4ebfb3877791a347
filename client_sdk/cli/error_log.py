"""Unexpected errors: one sentence for the terminal, and the traceback in a file."""

from __future__ import annotations

import contextlib
import tempfile
import traceback
from pathlib import Path

NAME = "serverless-fl-error.log"


def log_unexpected(error: BaseException, folder: Path) -> str:
    """Append the traceback to a file; gives a sentence that names the error and the file.

    The file lies in `folder` or, where that is not writable, in the system's temporary folder.
    """
    lines = traceback.format_exception(error)
    text = "".join(lines).encode(errors="backslashreplace")
    sentence = f"An unexpected error: {_shorten(' '.join(lines[-1].split()))}"
    for place in (folder, Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            path = place / NAME
            with path.open("ab") as log:
                log.write(text)
            return f"{sentence} The traceback is in {path}."
    return sentence


def describe_os_error(error: OSError) -> str:
    """A sentence for an error of the operating system: the file, and the system's reason."""
    about = f"{error.filename}: " if error.filename is not None else ""
    return f"{about}{error.strerror or error}."


def _shorten(text: str) -> str:
    return (text if len(text) <= 300 else f"{text[:299]}…").rstrip(".") + "."
