"""What `make test` tries a sample of, and `make soak` tries all of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")

# `make soak` sets it: then every case is tried, and each write of each run on SQLite.
EVERY_CASE = "EVERY_CASE"


def whole() -> bool:
    return bool(os.environ.get(EVERY_CASE))


def sample(cases: Sequence[T], few: Sequence[T]) -> Sequence[T]:
    """All the cases, or a few: those that between them reach every line and every kind."""
    return cases if whole() else few


def deaths(*on_mongo: str) -> pytest.MarkDecorator:
    """Parametrises a test of deaths at writes by its store and by the death's moment.

    SQLite has both moments. On MongoDB's protocol, where the same costs more than twice the
    processor time, `make test` has those named here, if any, and `make soak` both.
    """
    moments = ("before", "after")
    all_ = [(store, moment) for store in ("sqlite", "mongo") for moment in moments]
    few = [case for case in all_ if case[0] == "sqlite" or case[1] in on_mongo]
    return pytest.mark.parametrize(
        ("fresh_store", "after"),
        [
            pytest.param(store, moment == "after", id=f"{store}-{moment}")
            for store, moment in sample(all_, few)
        ],
        indirect=["fresh_store"],
    )
