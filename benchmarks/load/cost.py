"""What requests cost the store: calls, and the documents and keys that these give or write.

Counted at the ports, so it is the same whatever the database. A `count` is as many rows as it
counts: no store that is meant here keeps that number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_LISTS = ("keys", "scan", "sizes")
_WRITES = ("insert", "replace", "put")


@dataclass(frozen=True)
class Cost:
    """Of one request: calls of the store, and rows that were read or written by them."""

    calls: int = 0
    rows: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.calls + other.calls, self.rows + other.rows)


class Meter:
    """Adds up the calls of the stores that it wraps."""

    def __init__(self) -> None:
        self.total = Cost()

    def wrap(self, store: Any) -> Any:
        return _Counted(store, self)

    def take(self) -> Cost:
        """The cost since the last time."""
        taken, self.total = self.total, Cost()
        return taken


class _Counted:
    def __init__(self, store: Any, meter: Meter) -> None:
        self._store, self._meter = store, meter

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            result = await method(*args, **kwargs)
            self._meter.total += Cost(1, _rows(name, result))
            return result

        return call


def _rows(name: str, result: Any) -> int:
    if name in _LISTS:
        return len(result)
    if name == "count":
        return int(result)
    return int(name in _WRITES or result is not None)
