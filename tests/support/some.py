"""What tests ask of their surroundings: something to look at, and names for files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

import pytest

T = TypeVar("T")


def some(values: Iterable[T]) -> list[T]:
    """The values, of which there must be at least one."""
    found = list(values)
    assert found, "there is nothing to look at"
    return found


def needs_names(text: str) -> None:
    """Skip where the locale has no such names of files."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        pytest.skip(f"no file can be called {text!a} in this locale")
