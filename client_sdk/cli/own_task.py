"""`--task package.module:name`: a task that a user wrote, and its data.

The module is imported from the folder of the command, or from where Python finds it. It is the
user's own code: a model file or a coordinator never names one.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from client_sdk.cli import values
from client_sdk.data.data import Data, as_data
from client_sdk.errors import UsageError
from client_sdk.task.task import Task

_PLACE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def names_an_object(text: str | Path | None) -> bool:
    """Whether this is like `package.module:name`."""
    return text is not None and _PLACE.fullmatch(str(text)) is not None


def load_task(place: str) -> Task:
    """A task, or what a function or class without arguments gives. Raises UsageError."""
    found = _load("--task", place)
    if callable(found) and not isinstance(found, Task):
        found = _call("--task", place, found)
    if not isinstance(found, Task):
        raise UsageError(
            f"--task {place} is a {type(found).__name__}: it must be a Task, or give one."
        )
    return found


def load_data(flag: str, place: str) -> tuple[Data, Data | None]:
    """The data to train and to test on, which an object is or a function gives.

    They are a pair of data sets, or one data set without a test part. Raises UsageError, DataError.
    """
    train, test = load_pair(flag, place)
    return as_data(train), None if test is None else as_data(test)


def load_pair(flag: str, place: str) -> tuple[Any, Any]:
    """As `load_data`, but each part as it is, such as a dict of sites. Raises UsageError."""
    found = _load(flag, place)
    if callable(found) and not isinstance(found, Data):
        found = _call(flag, place, found)
    if isinstance(found, tuple) and len(found) == 2 and not _is_array(found[0]):
        return found
    return found, None


def _is_array(found: Any) -> bool:
    return hasattr(found, "shape") or isinstance(found, list)


def _load(flag: str, place: str) -> Any:
    if not names_an_object(place):
        raise UsageError(f"{flag} {place} must be package.module:name.")
    module, _, name = place.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise UsageError(f"{flag}: {module} needs the module {error.name}.") from error
        raise UsageError(f"{flag}: there is no module {module} in {here}.") from error
    except Exception as error:
        raise UsageError(f"{flag}: {module} raises {type(error).__name__}: {error}") from error
    if not hasattr(found, name):
        hint = values.suggestion(name, [n for n in vars(found) if not n.startswith("_")])
        raise UsageError(f"{flag}: {module} has no {name}{hint}.")
    return getattr(found, name)


def _call(flag: str, place: str, make: Any) -> Any:
    try:
        return make()
    except Exception as error:
        raise UsageError(f"{flag}: {place}() raises {type(error).__name__}: {error}") from error
