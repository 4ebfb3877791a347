"""Commands for a user to copy. They name the command or the interpreter that runs now."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess  # for its rules of quoting  # nosec B404
import sys
from pathlib import Path

SCRIPT = "serverless-fl"  # the command that an installation has beside `python -m client_sdk`


def python() -> str:
    """The interpreter of this process, relative to the working folder where that is shorter."""
    if not sys.executable:  # an embedded interpreter does not know its path
        return "python3"
    return _shortest(sys.executable)


def command(*words: str) -> str:
    """The command line that was typed, with these words, quoted as a shell needs them.

    It is `serverless-fl`, or `python -m client_sdk` where something else started this process.
    """
    return quoted(*_typed(), *words)


def command_elsewhere(*words: str) -> str:
    """As `command`, for a machine whose paths this one does not know."""
    typed = [SCRIPT] if _is_script() else ["python", "-m", "client_sdk"]
    return quoted(*typed, *words)


def install(package: str) -> str:
    """How to install a package for this interpreter, such as `serverless-fl[client]`."""
    return f"{quoted(python())} -m pip install '{package}'"


def missing(package: str | None) -> str:
    """A sentence for a package that all commands need and that is not installed."""
    how = install("serverless-fl[client]")
    return f"The Python package {package} is not installed: {how}."


def _is_script() -> bool:
    return Path(sys.argv[0]).stem == SCRIPT


def _typed() -> list[str]:
    if not _is_script():
        return [python(), "-m", "client_sdk"]
    typed = sys.argv[0]  # a path, also where the shell found the bare name in PATH
    found = shutil.which(SCRIPT)
    in_path = found is not None and Path(found).absolute() == Path(typed).absolute()
    return [SCRIPT if in_path else _shortest(typed)]


def _shortest(path: str) -> str:
    """The path, or the one relative to the working folder where that is shorter."""
    try:
        near = os.path.relpath(path)
    except ValueError:  # on another drive of Windows
        return path
    if os.path.dirname(near) == "":  # noqa: PTH120  (pathlib drops the leading ./ again)
        near = os.path.join(os.curdir, near)  # noqa: PTH118  (a shell looks up a bare name in PATH)
    return min(near, path, key=len)


def quoted(*words: str) -> str:
    """Words as the shell of this system needs them."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
