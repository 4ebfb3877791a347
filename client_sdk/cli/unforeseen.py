"""Unexpected errors: one sentence for the terminal, and the traceback in a file."""

from __future__ import annotations

import contextlib
import tempfile
import traceback
from pathlib import Path

NAME = "serverless-fl-error.log"


def record(error: BaseException, folder: Path) -> str:
    """Append the traceback to a file; gives a sentence that names the error and the file.

    The file lies in `folder` or, where that is not writable, in the system's temporary folder.
    """
    lines = traceback.format_exception(error)
    told = "".join(lines).encode(errors="backslashreplace")
    reason = " ".join(lines[-1].split())
    for place in (folder, Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            path = place / NAME
            with path.open("ab") as log:
                log.write(told)
            return f"An unexpected error: {_short(reason)} The traceback is in {path}."
    return f"An unexpected error: {_short(reason)}"


def of_system(error: OSError) -> str:
    """A sentence for an error of the operating system: the file, and the system's reason."""
    about = f"{error.filename}: " if error.filename is not None else ""
    return f"{about}{error.strerror or error}."


def _short(text: str) -> str:
    return (text if len(text) <= 300 else f"{text[:299]}…").rstrip(".") + "."
