"""A loop over nothing asserts nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def some(values: Iterable[T]) -> list[T]:
    """The values, of which there must be at least one."""
    found = list(values)
    assert found, "there is nothing to look at"
    return found
