"""Who may read a SQLite file, whether it is still the one that was opened, and whether what is
written to it stays.

SQLite goes on over files that were deleted or replaced, without a word, and what is written then is
gone with the process. A write-ahead log that was cut short is noticed by whoever reads behind the
cut, and by nobody else.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from serverless_fl.domain.errors import StoreUnavailable

SUFFIXES = ("", "-wal", "-shm")  # all three are there as long as anybody has the database open
_PROBE = (
    "INSERT INTO documents (kind, key, revision, body) VALUES ('probe', 'probe', 1, '{}') "
    "ON CONFLICT DO UPDATE SET revision = revision + 1"
)


def make_private(path: Path) -> None:
    """Make the file and its folder, where they are missing, and keep other users of the machine
    out: updates that are kept are clients' own. The log takes the file's mode. A folder that was
    there before stays as its owner made it. Raises OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        for file in _files(path):
            with suppress(OSError):  # it is another user's, who has let us in
                file.chmod(0o600)


def _files(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}{suffix}") for suffix in SUFFIXES]


class Files:
    """The files of an open database, as they were when it was opened.

    They are only looked at by name: to open and close one of them would drop the locks that SQLite
    holds on it for this process (https://sqlite.org/howtocorrupt.html, section 2.2).
    """

    def __init__(self, path: Path) -> None:
        self.path, self._all = path, _files(path)
        self._seen = self._look()

    def _look(self) -> list[tuple[int, int]]:
        found = [file.stat() for file in self._all]
        if not found[0].st_size:
            raise StoreUnavailable(f"The database {self.path} was emptied: put a copy of it back.")
        return [(file.st_dev, file.st_ino) for file in found]

    def require_same(self) -> None:
        """Raises StoreUnavailable where one of them was deleted, another stands in its place, or
        the database is empty.
        """
        try:
            same = self._look() == self._seen
        except OSError:
            same = False
        if not same:
            raise StoreUnavailable(
                f"The database {self.path} was deleted or replaced while it was open: put it back "
                "and restart the coordinator, or what is written will be lost."
            )


def probe(connection: sqlite3.Connection) -> None:
    """Write a row, and read what the database counts on. Raises sqlite3.Error."""
    # This reads whatever of the log is not in the database yet, and so finds out if that is gone.
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    connection.execute(_PROBE)
