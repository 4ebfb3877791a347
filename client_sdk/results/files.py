"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from client_sdk.errors import UsageError


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole: a reader sees the old one or the new one."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    create_file(draft, data)
    draft.replace(path)


def write_output(path: Path, data: bytes) -> None:
    """As `replace_file`, for a path that a person gave. Raises UsageError with a sentence."""
    try:
        replace_file(path, data)
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}.") from error


def require_writable(path: Path) -> None:
    """Raise UsageError if a file could not be written there: before work of hours, not after."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        if path.is_dir():
            raise UsageError(f"Cannot write {path}: it is a folder.")
        create_file(draft, b"")
        draft.unlink()
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}.") from error


def create_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file that is not there yet. Raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
