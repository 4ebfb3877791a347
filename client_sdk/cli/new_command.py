"""The command `new`: a small project of task, data, simulation and tests, which runs at once."""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

from client_sdk import hints
from client_sdk.errors import UsageError
from client_sdk.results.console import Output

_ENDING = ".template"  # tools of this repository leave such files alone
_NAME = "PROJECT"  # in them, the name of the project


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Write the files into a folder that is not there yet, and say how to run them."""
    folder: Path = arguments.folder
    written = write_project(folder)
    console.say(f"{folder}: {', '.join(written)}")
    console.say(f"It runs at once: cd {hints.quoted(str(folder))} && python train.py")
    return 0


def write_project(folder: Path) -> list[str]:
    """Make the folder and its files; gives their names. Raises UsageError, OSError."""
    name = folder.resolve().name
    try:
        folder.mkdir()
    except FileExistsError as error:
        raise UsageError(f"{str(folder)!r} is there already: give another name.") from error
    except FileNotFoundError as error:
        raise UsageError(f"There is no folder {str(folder.parent)!r}.") from error
    templates = resources.files("client_sdk.cli") / "new_project"
    written = []
    for template in sorted(templates.iterdir(), key=lambda found: found.name):
        if template.name.endswith(_ENDING):
            text = template.read_text(encoding="utf-8").replace(_NAME, name)
            path = folder / template.name.removesuffix(_ENDING)
            path.write_text(text, encoding="utf-8")
            written.append(path.name)
    return written
