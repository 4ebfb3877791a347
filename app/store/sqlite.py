"""The embedded store: one SQLite file, shared by any number of processes on one machine."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from app.domain.errors import StoreUnavailable
from app.store.port import Body, Document

T = TypeVar("T")
SCHEMA_VERSION = 1
BUSY_SECONDS = 10.0
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS documents (
        kind TEXT NOT NULL, key TEXT NOT NULL, second TEXT,
        revision INTEGER NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (kind, key)) WITHOUT ROWID""",
    """CREATE UNIQUE INDEX IF NOT EXISTS documents_by_second
        ON documents (kind, second) WHERE second IS NOT NULL""",
    "CREATE TABLE IF NOT EXISTS blobs (key TEXT PRIMARY KEY, size INTEGER NOT NULL, data BLOB)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class _Database:
    """One connection and the one thread that uses it: a hop an operation, nothing on the loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def open(self) -> None:
        await self.run(self._open)

    def _open(self, _: object = None) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"Cannot make {self.path.parent}: {error}.") from error
        # Autocommit: each statement is a transaction of its own, and no other kind is needed.
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        self._connection = connection
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreUnavailable(
                f"{self.path} was written by a newer version (schema {version}; this one knows "
                f"{SCHEMA_VERSION}): upgrade this coordinator."
            )
        _switch_to_wal(connection)
        # An answered write survives a power cut, not only the death of the process.
        connection.execute("PRAGMA synchronous = FULL")
        if version < SCHEMA_VERSION:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("COMMIT")

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run in the connection's thread. Raises StoreUnavailable for anything SQLite says."""
        if self._closed:
            raise StoreUnavailable(f"The database {self.path} is closed.")

        def guarded() -> T:
            try:
                return work(self._connection)  # type: ignore[arg-type]
            except sqlite3.Error as error:
                raise StoreUnavailable(f"The database {self.path} failed: {error}.") from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, guarded)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True

        def shut() -> None:
            if self._connection is not None:
                self._connection.close()

        await asyncio.get_running_loop().run_in_executor(self._thread, shut)
        self._thread.shutdown()


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # The switch takes an exclusive lock and does not honour the busy timeout, so that of several
    # workers that start at once on a new file some would fail: try again, as the timeout would.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF in _BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _upper(prefix: str) -> bytes:
    """Above every string that starts with `prefix`: UTF-8 never uses the byte FF."""
    return prefix.encode() + b"\xff"


class SQLiteDocuments:
    """`app.store.port.Documents` over a SQLite file."""

    def __init__(self, database: _Database) -> None:
        self._database = database

    async def insert(self, kind: str, key: str, body: Body, *, unique: str | None = None) -> bool:
        row = (kind, key, unique, _dump(body))

        def work(connection: sqlite3.Connection) -> bool:
            cursor = connection.execute(
                "INSERT INTO documents (kind, key, second, revision, body) VALUES (?, ?, ?, 1, ?) "
                "ON CONFLICT DO NOTHING",
                row,
            )
            return cursor.rowcount == 1

        return await self._database.run(work)

    async def get(self, kind: str, key: str) -> Document | None:
        return await self._one("key = ?", kind, key)

    async def find(self, kind: str, unique: str) -> Document | None:
        return await self._one("second = ?", kind, unique)

    async def _one(self, where: str, kind: str, value: str) -> Document | None:
        # `where` is one of two texts in this file, never a caller's.
        sql = f"SELECT key, revision, body FROM documents WHERE kind = ? AND {where}"  # noqa: S608  # nosec B608
        row = await self._database.run(lambda c: c.execute(sql, (kind, value)).fetchone())
        return None if row is None else Document(row[0], row[1], json.loads(row[2]))

    async def replace(self, kind: str, key: str, revision: int, body: Body) -> bool:
        row = (_dump(body), kind, key, revision)

        def work(connection: sqlite3.Connection) -> bool:
            cursor = connection.execute(
                "UPDATE documents SET body = ?, revision = revision + 1 "
                "WHERE kind = ? AND key = ? AND revision = ?",
                row,
            )
            return cursor.rowcount == 1

        return await self._database.run(work)

    async def keys(self, kind: str, prefix: str) -> list[str]:
        sql = (
            "SELECT key FROM documents "
            "WHERE kind = ? AND key >= ? AND key < CAST(? AS TEXT) ORDER BY key"
        )
        bounds = (kind, prefix, _upper(prefix))
        rows = await self._database.run(lambda c: c.execute(sql, bounds).fetchall())
        return [key for (key,) in rows]

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
        row = await self._database.run(lambda c: c.execute(sql, bounds).fetchone())
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
        return [Document(key, revision, json.loads(body)) for key, revision, body in rows]

    async def close(self) -> None:
        await self._database.close()


class SQLiteBlobs:
    """`app.store.port.Blobs` in the same file."""

    def __init__(self, database: _Database) -> None:
        self._database = database

    async def put(self, key: str, data: bytes) -> None:
        sql = "INSERT INTO blobs (key, size, data) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        await self._database.run(lambda c: c.execute(sql, (key, len(data), data)))

    async def get(self, key: str) -> bytes | None:
        sql = "SELECT data FROM blobs WHERE key = ?"
        row = await self._database.run(lambda c: c.execute(sql, (key,)).fetchone())
        return None if row is None else bytes(row[0])

    async def sizes(self, prefix: str) -> dict[str, int]:
        sql = "SELECT key, size FROM blobs WHERE key >= ? AND key < CAST(? AS TEXT) ORDER BY key"
        bounds = (prefix, _upper(prefix))
        return dict(await self._database.run(lambda c: c.execute(sql, bounds).fetchall()))

    async def delete(self, prefix: str) -> None:
        sql = "DELETE FROM blobs WHERE key >= ? AND key < CAST(? AS TEXT)"
        await self._database.run(lambda c: c.execute(sql, (prefix, _upper(prefix))))


def _dump(body: Body) -> str:
    return json.dumps(body, allow_nan=False, separators=(",", ":"))


async def open_sqlite(path: Path) -> tuple[SQLiteDocuments, SQLiteBlobs]:
    """Open or make the file. Raises StoreUnavailable, naming it, where that is impossible."""
    database = _Database(path)
    try:
        await database.open()
    except BaseException:
        await database.close()
        raise
    return SQLiteDocuments(database), SQLiteBlobs(database)
