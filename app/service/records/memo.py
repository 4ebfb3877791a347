"""Remembers the domain objects of documents until the documents change.

Each call reads its experiment, round, client and base model, and mapping them takes longer than
reading them (docs/decisions/0033). An object is used again only if the store has just returned the
same revision and an equal body. So a process that remembers nothing gives the same answers.

`ON` is the switch: without it each call maps its own objects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from app.store.port import Document

T = TypeVar("T")
ON = True


class Memo(Generic[T]):
    """Calls `make`, and remembers its results for the latest `most` keys. Nobody changes a `T`."""

    def __init__(self, make: Callable[[Document], T], most: int) -> None:
        self._make = make
        self._most = most
        self._known: dict[str, tuple[Document, T]] = {}

    def __call__(self, found: Document) -> T:
        known = self._known.pop(found.key, None)
        if known is None or not ON or not _same(known[0], found):
            known = (found, self._make(found))
            if len(self._known) >= self._most:
                del self._known[next(iter(self._known))]
        self._known[found.key] = known
        return known[1]


def _same(one: Document, other: Document) -> bool:
    return one is other or (one.revision == other.revision and one.body == other.body)
