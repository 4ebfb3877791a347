"""Tests that end soon come first: a mutant that they notice is dealt with in no time.

A plugin of pytest for mutmut, which gives the tests of a mutant in no order.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

STATS = Path("mutmut-stats.json")  # mutmut runs pytest in its own copy of the repository


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if STATS.exists():
        seconds = json.loads(STATS.read_bytes())["duration_by_test"]
        items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))
