"""Files that are written whole and survive a loss of power."""

from __future__ import annotations

import os
from pathlib import Path


def create_durably(path: Path, data: bytes) -> None:
    """Write a file that is not there yet and that only its owner can read.

    Raises FileExistsError, OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read: a reader sees the old one or the new one.

    On return it survives a loss of power. One process at a time writes to `path`. Raises OSError.
    """
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)  # of a process that died
    create_durably(draft, data)
    draft.replace(path)
    _make_durable(path.parent)


def _make_durable(folder: Path) -> None:
    """Make a renaming survive a loss of power; Windows does so by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
