"""What `make test` tries a sample of, and `make soak` tries all of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

# `make soak` sets it: then every case is tried, and each write of each run on SQLite.
EVERY_CASE = "EVERY_CASE"


def whole() -> bool:
    return bool(os.environ.get(EVERY_CASE))


def sample(cases: Sequence[T], few: Sequence[T]) -> Sequence[T]:
    """All the cases, or a few: those that between them reach every line and every kind."""
    return cases if whole() else few
