"""Remembers the documents read from a SQLite file until any process writes to the file.

Each poll reads six documents, and to read and parse them takes a third of a poll's processor time
(docs/decisions/0033). SQLite tells in a few microseconds whether another connection has written,
and this process writes through another connection than it reads through.

`ON` is the switch: without it each call reads the file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from app.store.port import Document
from app.store.sqlite_file import Database

ON = True
MOST = 1000  # documents
_NEVER_READ = object()


class KnownDocuments:
    """Calls `read` for a kind and a key, and remembers its answers, None as well."""

    def __init__(
        self, database: Database, read: Callable[[str, str], Awaitable[Document | None]]
    ) -> None:
        self._database = database
        self._read = read
        self._known: dict[tuple[str, str], Document | None] = {}
        self._version: int | None = None  # of the file, when the documents were read
        self._is_current = False  # until the event loop has run the callbacks that now wait

    async def get(self, kind: str, key: str) -> Document | None:
        """Give the document as of the last completed write. Raises StoreUnavailable."""
        version = self._current_version() if ON else None
        if version is None:
            return await self._read(kind, key)
        known = self._known.get((kind, key), _NEVER_READ)
        if known is not _NEVER_READ:
            return known  # type: ignore[return-value]
        found = await self._read(kind, key)
        # A read that waited in the thread may be older than what other calls have seen meanwhile.
        if self._version == version:
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[kind, key] = found
        return found

    def _current_version(self) -> int | None:
        """Give the version of the file and forget the documents of another one; None if unknown.

        One answer serves until the event loop turns: a caller learns of a write only from a
        callback of the loop, and those that come later run after `_turned`.
        """
        if not self._is_current:
            version = self._database.version()
            if version is None:
                return None
            if version != self._version:
                self._known.clear()
                self._version = version
            self._is_current = True
            asyncio.get_running_loop().call_soon(self._turned)
        return self._version

    def _turned(self) -> None:
        self._is_current = False
