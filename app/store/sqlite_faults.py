"""Translates the errors of sqlite3 into the port's errors."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from serverless_fl.domain.errors import StoreDenied, StoreRefused, StoreUnavailable

FOREIGN = (sqlite3.Error, UnicodeError, OverflowError)  # sqlite3 raises these
_DENIED = (  # https://sqlite.org/rescode.html
    *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN),
    *(sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT),
)


def translated(error: Exception, path: Path) -> StoreUnavailable:
    """Give the port's error for an error of sqlite3."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if isinstance(error, UnicodeError | OverflowError):  # its message quotes the key
        return StoreRefused(f"The database {path} cannot take the key: {type(error).__name__}.")
    if code == sqlite3.SQLITE_TOOBIG:
        return StoreRefused(f"The database {path} failed: {error}.")
    kind = StoreDenied if code in _DENIED else StoreUnavailable
    return kind(f"The database {path} failed: {error}.")
