"""A SQLite file: short reads on the event loop, all other work in one thread.

To read a row by its key takes a few microseconds, and to wake a thread takes many times as long. So
short reads have a connection of their own and run on the event loop. With a write-ahead log (WAL) a
writer does not block readers. If SQLite is busy in spite of that (another process may recover the
log), the thread repeats the read and waits.

Writes that arrive while the thread writes are committed together in the next transaction. They
share one `fsync`, which takes longer than the rest on most disks, and all are answered after it.
Blobs need no `fsync` of their own: a blob counts only once a document names it, and that document
comes after the blob in the same log.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from app.store.sqlite_check import Files, make_private, probe
from app.store.sqlite_faults import FOREIGN, translated
from serverless_fl.domain.errors import StoreUnavailable

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
SCHEMA_VERSION = 1
BUSY_SECONDS = 10.0
PAGE_BYTES = 16_384  # for a new file: blobs are written twice as fast as with pages of 4,096
MOST_AT_ONCE = 16  # writes in one transaction
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


class Database:
    """The connections to one file. Each method raises StoreUnavailable for any error of SQLite."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None  # for the thread
        self._reader: sqlite3.Connection | None = None  # for the event loop
        self._writes: deque[tuple[Work[Any], bool, asyncio.Future[Any]]] = deque()
        self._writing = False
        self._lock = threading.Lock()  # guards _writes and _writing
        self._closed = False
        self._synchronised = True
        self._files: Files | None = None  # None for a database in memory

    async def open(self) -> None:
        await self.run(self._open)

    def _open(self, _: object = None) -> None:
        if str(self.path) != ":memory:":
            try:
                make_private(self.path)
            except OSError as error:
                raise StoreUnavailable(f"Cannot make {self.path}: {error}.") from error
        # isolation_level=None is autocommit: a statement is a transaction of its own, unless
        # `_write` begins one.
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._connection = self._reader = connection
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreUnavailable(
                f"A newer coordinator wrote {self.path} (schema {version}; this one knows "
                f"{SCHEMA_VERSION}): upgrade this coordinator."
            )
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        _switch_to_wal(connection)
        # With FULL an answered write survives a power cut, and not only the death of the process.
        connection.execute("PRAGMA synchronous = FULL")
        if version < SCHEMA_VERSION:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("COMMIT")
        if str(self.path) != ":memory:":  # a database in memory has one connection
            self._reader = sqlite3.connect(
                self.path, timeout=0, isolation_level=None, check_same_thread=False
            )
            self._reader.execute("PRAGMA query_only = ON")
            self._files = Files(self.path)

    def _guarded(self, work: Work[T], connection: sqlite3.Connection | None) -> T:
        try:
            return work(connection)  # type: ignore[arg-type]
        except FOREIGN as error:
            raise translated(error, self.path) from error

    def _require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"The database {self.path} is closed.")

    async def run(self, work: Work[T]) -> T:
        """Run work that may take long, in the thread."""
        self._require_open()
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self._guarded(work, self._connection)
        )

    async def read(self, work: Work[T]) -> T:
        """Run a read of a few rows on the event loop, or in the thread if the file is busy."""
        self._require_open()
        try:
            return work(self._reader)  # type: ignore[arg-type]
        except FOREIGN as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _BUSY:
                raise translated(error, self.path) from error
        return await self.run(work)

    def version(self) -> int | None:
        """Give a number that is another one after each write of any connection but the reader's.

        None if the file is busy, or in memory, where the reader's connection writes too.
        """
        self._require_open()
        if self._reader is None or self._reader is self._connection:
            return None
        try:
            return int(self._reader.execute("PRAGMA data_version").fetchone()[0])
        except FOREIGN as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY:
                return None
            raise translated(error, self.path) from error

    async def check(self) -> None:
        """Write a probe. Raises StoreUnavailable if writes would be lost."""
        await self.write(probe, durable=False)

    async def write(self, work: Work[T], *, durable: bool = True) -> T:
        """Run one writing statement. On return the write survives the death of the process.

        A `durable` write survives a power cut as well. Another write does so once a later durable
        write is complete, because the log keeps the order of the writes.
        """
        self._require_open()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._writes.append((work, durable, future))
            begin, self._writing = not self._writing, True
        if begin:
            self._thread.submit(self._drain)
        return await future

    def _drain(self) -> None:
        """Write in the thread until the queue is empty."""
        while True:
            with self._lock:
                batch = [
                    self._writes.popleft() for _ in range(min(MOST_AT_ONCE, len(self._writes)))
                ]
                if not batch:
                    self._writing = False
                    return
            self._synchronise(any(durable for _, durable, _ in batch))
            results = self._write([work for work, _, _ in batch])
            for (_, _, future), result in zip(batch, results, strict=True):
                with suppress(RuntimeError):  # the caller's event loop is closed
                    future.get_loop().call_soon_threadsafe(_settle, future, result)

    def _synchronise(self, fully: bool) -> None:
        """Make the next commit wait for the disk, or not."""
        if fully != self._synchronised:
            sql = f"PRAGMA synchronous = {'FULL' if fully else 'NORMAL'}"
            self._alone(lambda c: c.execute(sql))
            self._synchronised = fully

    def _write(self, works: list[Work[Any]]) -> list[Any]:
        """Do all works in one transaction, or each by itself if that fails; give their results."""
        connection = self._connection
        assert connection is not None  # noqa: S101  (`write` requires an open database)
        try:
            if self._files is not None:
                self._files.require_same()
        except StoreUnavailable as error:
            return [_Failed(error)] * len(works)
        if len(works) > 1:
            begun = self._alone(lambda c: c.execute("BEGIN IMMEDIATE"))
            if isinstance(begun, _Failed):  # another process writes for longer than BUSY_SECONDS
                return [begun] * len(works)
            try:
                results = [work(connection) for work in works]
                connection.execute("COMMIT")
            except Exception:
                if connection.in_transaction:
                    self._alone(lambda c: c.execute("ROLLBACK"))
            else:
                return results
        return [self._alone(work) for work in works]

    def _alone(self, work: Work[Any]) -> Any:
        try:
            return self._guarded(work, self._connection)
        except Exception as error:
            return _Failed(error)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True

        def shut() -> None:
            for connection in (self._reader, self._connection):
                if connection is not None:
                    connection.close()

        await asyncio.get_running_loop().run_in_executor(self._thread, shut)
        self._thread.shutdown()


class _Failed:
    """An error as the result of a work; `_settle` raises it in the caller."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.cancelled():
        return
    if isinstance(result, _Failed):
        future.set_exception(result.error)
    else:
        future.set_result(result)


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # The switch takes an exclusive lock and ignores the busy timeout, so some of several workers
    # that start at once on a new file would fail. Try again for as long as the timeout.
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
