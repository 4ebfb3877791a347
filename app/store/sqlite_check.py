"""Checks of a SQLite file: its permissions, its identity, and whether writes stay.

SQLite reports no error if somebody deletes or replaces an open file, and all later writes are lost
when the process ends. If the write-ahead log is cut short, SQLite notices only when it reads beyond
the cut.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from serverless_fl.domain.errors import StoreUnavailable

SUFFIXES = ("", "-wal", "-shm")  # all three files exist while a process has the database open
_PROBE = (
    "INSERT INTO documents (kind, key, revision, body) VALUES ('probe', 'probe', 1, '{}') "
    "ON CONFLICT DO UPDATE SET revision = revision + 1"
)


def make_private(path: Path) -> None:
    """Create the file and its folder if they are missing, and keep other users of the machine out.

    Kept updates are sensitive data of clients. SQLite gives the log the mode of the file. An
    existing folder keeps its mode, which its owner chose. Raises OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        for file in _files(path):
            with suppress(OSError):  # the file may belong to another user, who shares it
                file.chmod(0o600)


def _files(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}{suffix}") for suffix in SUFFIXES]


class Files:
    """The identities of an open database's files, to notice that one was deleted or replaced.

    This class calls `stat` and never opens a file, because closing it would drop SQLite's locks
    of this process (https://sqlite.org/howtocorrupt.html, section 2.2).
    """

    def __init__(self, path: Path) -> None:
        self.path, self._all = path, _files(path)
        self._seen = self._identities()

    def _identities(self) -> list[tuple[int, int]]:
        found = [file.stat() for file in self._all]
        if not found[0].st_size:
            raise StoreUnavailable(f"The database {self.path} is empty now: put a copy of it back.")
        return [(file.st_dev, file.st_ino) for file in found]

    def require_same(self) -> None:
        """Raise StoreUnavailable if a file was deleted or replaced, or if the database is empty."""
        try:
            same = self._identities() == self._seen
        except OSError:
            same = False
        if not same:
            raise StoreUnavailable(
                f"The database {self.path} was deleted or replaced while it was open: put it back "
                "and restart the coordinator, or what is written will be lost."
            )


def probe(connection: sqlite3.Connection) -> None:
    """Write a row, and read the write-ahead log. Raises sqlite3.Error."""
    # A checkpoint reads the part of the log that is not in the database yet, and fails if it is
    # gone.
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    connection.execute(_PROBE)
