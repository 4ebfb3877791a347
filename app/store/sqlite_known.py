"""Remembers the documents read from a SQLite file until any process writes to the file.

Each poll reads six documents, and to read and parse them takes a third of a poll's processor time
(docs/decisions/0033). SQLite tells in a few microseconds whether another connection has written,
and this process writes through another connection than it reads through. After a write the rows are
read again, but a document is parsed again only if its row is another one: while thousands of
clients upload, something is written between most polls.

`ON` is the switch: without it each call reads and parses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from pydantic_core import from_json

from app.store.port import Document
from app.store.sqlite_file import Database

ON = True
MOST_BYTES = 4 * 1024**2  # of rows; their documents take a few times as much memory
_ENTRY_BYTES = 500  # that an entry takes beside its row
Row = tuple[str, int, str]  # key, revision, body


class _Entry(NamedTuple):
    version: int  # of the file, as of which the row was read
    row: Row | None
    document: Document | None


def document_of(row: Row | None) -> Document | None:
    """Give the document of a row of the table `documents`."""
    return None if row is None else Document(row[0], row[1], from_json(row[2]))


class KnownDocuments:
    """Calls `read` for a kind and a key, and remembers its answers, None as well."""

    def __init__(
        self, database: Database, read: Callable[[str, str], Awaitable[Row | None]]
    ) -> None:
        self._database = database
        self._read = read
        self._known: dict[tuple[str, str], _Entry] = {}
        self._bytes = 0  # that the entries take
        self._version: int | None = None  # of the file, until the event loop turns

    async def get(self, kind: str, key: str) -> Document | None:
        """Give the document as of the last completed write. Raises StoreUnavailable."""
        version = self._current_version() if ON else None
        if version is None:
            return document_of(await self._read(kind, key))
        known = self._known.get((kind, key))
        if known is not None and known.version == version:
            return known.document
        row = await self._read(kind, key)
        document = known.document if known is not None and known.row == row else document_of(row)
        # A read that waited in the thread may be older than what other calls have seen meanwhile.
        if self._version == version:
            self._remember((kind, key), _Entry(version, row, document))
        return document

    def _remember(self, name: tuple[str, str], entry: _Entry) -> None:
        self._bytes += _size(entry) - _size(self._known.get(name))
        if self._bytes > MOST_BYTES:
            self._known.clear()
            self._bytes = _size(entry)
        self._known[name] = entry

    def _current_version(self) -> int | None:
        """Give the version of the file; None if unknown.

        One answer serves until the event loop turns: a caller learns of a write only from a
        callback of the loop, and those that come later run after `_turned`.
        """
        if self._version is None:
            self._version = self._database.version()
            if self._version is not None:
                asyncio.get_running_loop().call_soon(self._turned)
        return self._version

    def _turned(self) -> None:
        self._version = None


def _size(entry: _Entry | None) -> int:
    """Give the bytes that an entry counts for."""
    if entry is None:
        return 0
    return _ENTRY_BYTES + (0 if entry.row is None else len(entry.row[2]))
