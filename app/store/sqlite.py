"""The embedded store: one SQLite file, shared by any number of processes on one machine."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from app.store.port import Body, Document
from app.store.sqlite_file import Database
from app.store.sqlite_known import KnownDocuments, Row, document_of
from serverless_fl.domain.errors import StoreRefused

# The event loop reads a blob, or rows, up to these sizes faster than it wakes a thread.
SMALL = 256 * 1024  # bytes
FEW = 256  # rows


async def fetch_all(
    database: Database, sql: str, bounds: tuple[object, ...]
) -> list[tuple[Any, ...]]:
    """Give all rows of a query: on the event loop if there are a few, else in the thread."""
    rows = await database.read(lambda c: c.execute(f"{sql} LIMIT {FEW}", bounds).fetchall())
    if len(rows) < FEW:
        return rows
    return await database.run(lambda c: c.execute(sql, bounds).fetchall())


def _upper(prefix: str) -> bytes:
    """Give a bound above every key that starts with `prefix`: UTF-8 never uses the byte FF."""
    try:
        return prefix.encode() + b"\xff"
    except UnicodeError as error:
        raise StoreRefused("The database takes no key with a lone surrogate.") from error


_GET = "SELECT key, revision, body FROM documents WHERE kind = ? AND key = ?"
_FIND = "SELECT key, revision, body FROM documents WHERE kind = ? AND second = ?"


class SQLiteDocuments:
    """`app.store.port.Documents` in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known = KnownDocuments(database, self._row)

    async def insert(self, kind: str, key: str, body: Body, *, unique: str | None = None) -> bool:
        row = (kind, key, unique, _dump(body))

        def work(connection: sqlite3.Connection) -> bool:
            cursor = connection.execute(
                "INSERT INTO documents (kind, key, second, revision, body) VALUES (?, ?, ?, 1, ?) "
                "ON CONFLICT DO NOTHING",
                row,
            )
            return cursor.rowcount == 1

        return await self._database.write(work)

    def get(self, kind: str, key: str) -> Coroutine[Any, Any, Document | None]:
        return self._known.get(kind, key)

    async def _row(self, kind: str, key: str) -> Row | None:
        found: Row | None = await self._database.read(
            lambda c: c.execute(_GET, (kind, key)).fetchone()
        )
        return found

    async def find(self, kind: str, unique: str) -> Document | None:
        return document_of(
            await self._database.read(lambda c: c.execute(_FIND, (kind, unique)).fetchone())
        )

    async def replace(self, kind: str, key: str, revision: int, body: Body) -> bool:
        row = (_dump(body), kind, key, revision)

        def work(connection: sqlite3.Connection) -> bool:
            cursor = connection.execute(
                "UPDATE documents SET body = ?, revision = revision + 1 "
                "WHERE kind = ? AND key = ? AND revision = ?",
                row,
            )
            return cursor.rowcount == 1

        return await self._database.write(work)

    async def keys(self, kind: str, prefix: str) -> list[str]:
        sql = (
            "SELECT key FROM documents "
            "WHERE kind = ? AND key >= ? AND key < CAST(? AS TEXT) ORDER BY key"
        )
        bounds = (kind, prefix, _upper(prefix))
        return [key for (key,) in await fetch_all(self._database, sql, bounds)]

    async def count(self, kind: str, prefix: str) -> int:
        sql = "SELECT count(*) FROM documents WHERE kind = ? AND key >= ? AND key < CAST(? AS TEXT)"
        bounds = (kind, prefix, _upper(prefix))
        row = await self._database.run(lambda c: c.execute(sql, bounds).fetchone())
        return int(row[0])

    async def last_key(self, kind: str, prefix: str) -> str | None:
        sql = (
            "SELECT key FROM documents WHERE kind = ? AND key >= ? AND key < CAST(? AS TEXT) "
            "ORDER BY key DESC LIMIT 1"
        )
        bounds = (kind, prefix, _upper(prefix))
        row = await self._database.read(lambda c: c.execute(sql, bounds).fetchone())
        return None if row is None else str(row[0])

    async def scan(
        self, kind: str, prefix: str, *, after: str = "", limit: int = 1000
    ) -> list[Document]:
        sql = (
            "SELECT key, revision, body FROM documents "
            "WHERE kind = ? AND key >= ? AND key < CAST(? AS TEXT) AND key > ? ORDER BY key LIMIT ?"
        )
        bounds = (kind, prefix, _upper(prefix), after, limit)
        rows = await self._database.run(lambda c: c.execute(sql, bounds).fetchall())
        return [Document(key, revision, from_json(body)) for key, revision, body in rows]

    async def delete(self, kind: str, prefix: str) -> None:
        sql = "DELETE FROM documents WHERE kind = ? AND key >= ? AND key < CAST(? AS TEXT)"
        bounds = (kind, prefix, _upper(prefix))
        await self._database.write(lambda c: c.execute(sql, bounds).rowcount)

    async def check(self) -> None:
        await self._database.check()

    async def close(self) -> None:
        await self._database.close()


class SQLiteBlobs:
    """`app.store.port.Blobs` in the same SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, key: str, data: bytes) -> None:
        sql = "INSERT INTO blobs (key, size, data) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        await self._database.write(
            lambda c: c.execute(sql, (key, len(data), data)).rowcount, durable=False
        )

    async def get(self, key: str) -> bytes | None:
        sql = "SELECT size, CASE WHEN size <= ? THEN data END FROM blobs WHERE key = ?"
        row = await self._database.read(lambda c: c.execute(sql, (SMALL, key)).fetchone())
        if row is not None and row[0] > SMALL:
            large = "SELECT size, data FROM blobs WHERE key = ?"
            row = await self._database.run(lambda c: c.execute(large, (key,)).fetchone())
        return None if row is None else bytes(row[1])

    async def sizes(self, prefix: str) -> dict[str, int]:
        sql = "SELECT key, size FROM blobs WHERE key >= ? AND key < CAST(? AS TEXT) ORDER BY key"
        return dict(await fetch_all(self._database, sql, (prefix, _upper(prefix))))

    async def delete(self, prefix: str) -> None:
        sql = "DELETE FROM blobs WHERE key >= ? AND key < CAST(? AS TEXT)"
        bounds = (prefix, _upper(prefix))
        await self._database.write(lambda c: c.execute(sql, bounds).rowcount)


def _dump(body: Body) -> str:
    return json.dumps(body, allow_nan=False, separators=(",", ":"))


async def open_sqlite(path: Path) -> tuple[SQLiteDocuments, SQLiteBlobs]:
    """Open the file, or create it. Raises StoreUnavailable with the name of the file."""
    database = Database(path)
    try:
        await database.open()
    except BaseException:
        await database.close()
        raise
    return SQLiteDocuments(database), SQLiteBlobs(database)
