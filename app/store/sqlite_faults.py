"""What SQLite says of a fault, as one of the port's errors."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from serverless_fl.domain.errors import StoreDenied, StoreRefused, StoreUnavailable

FOREIGN = (sqlite3.Error, UnicodeError, OverflowError)  # what sqlite3 raises
_DENIED = (  # https://sqlite.org/rescode.html
    *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN),
    *(sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT),
)


def translated(error: Exception, path: Path) -> StoreUnavailable:
    """The port's error for whatever a call of sqlite3 raised."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if isinstance(error, UnicodeError | OverflowError):  # which quotes the key
        return StoreRefused(f"The database {path} takes no such key: {type(error).__name__}.")
    if code == sqlite3.SQLITE_TOOBIG:
        return StoreRefused(f"The database {path} failed: {error}.")
    kind = StoreDenied if code in _DENIED else StoreUnavailable
    return kind(f"The database {path} failed: {error}.")
