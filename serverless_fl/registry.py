"""Registries: each module that a registry names adds its class. A new one is a file and a name."""

from __future__ import annotations

import importlib
from typing import TypeVar

T = TypeVar("T")


def registered(base: type[T], package: str, *modules: str) -> tuple[type[T], ...]:
    """Give the classes below `base` of these modules of a package, in the order of the names.

    A module defines one such class whose name does not begin with an underscore. Raises TypeError
    if it defines another number.

    >>> from serverless_fl.schedule.schedule import Schedule
    >>> registered(Schedule, "serverless_fl.schedule", "buffered")
    (<class 'serverless_fl.schedule.buffered.Buffered'>,)
    """
    return tuple(_class_of(base, f"{package}.{module}") for module in modules)


def _class_of(base: type[T], module: str) -> type[T]:
    found = [
        one
        for name, one in vars(importlib.import_module(module)).items()
        if isinstance(one, type) and issubclass(one, base) and one.__module__ == module
        if not name.startswith("_")
    ]
    if len(found) != 1:
        names = ", ".join(one.__name__ for one in found) or "none"
        raise TypeError(f"{module} defines one public class below {base.__name__}, not {names}.")
    return found[0]
