"""Commands for a user to copy. They name the interpreter that runs now."""

from __future__ import annotations

import os
import shlex
import subprocess  # for its rules of quoting  # nosec B404
import sys


def python() -> str:
    """The interpreter of this process, relative to the working folder where that is shorter."""
    if not sys.executable:  # an embedded interpreter does not know its path
        return "python3"
    try:
        near = os.path.relpath(sys.executable)
    except ValueError:  # on another drive of Windows
        return sys.executable
    if os.path.dirname(near) == "":  # noqa: PTH120  (pathlib drops the leading ./ again)
        near = os.path.join(os.curdir, near)  # noqa: PTH118  (a shell looks up a bare name in PATH)
    return min(near, sys.executable, key=len)


def command(*words: str) -> str:
    """`python -m client_sdk` with these words, quoted as a shell needs them."""
    return quoted(python(), "-m", "client_sdk", *words)


def install(package: str) -> str:
    """How to install a package for this interpreter, such as `serverless-fl[client]`."""
    return f"{quoted(python())} -m pip install '{package}'"


def missing(package: str | None) -> str:
    """A sentence for a package that all commands need and that is not installed."""
    how = install("serverless-fl[client]")
    return f"The Python package {package} is not installed: {how}."


def quoted(*words: str) -> str:
    """Words as the shell of this system needs them."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
