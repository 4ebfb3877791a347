"""The admin key that a coordinator makes for its own machine, in a file beside the database."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

from serverless_fl.domain.errors import StoreUnavailable

WRITING_SECONDS = 5.0  # a process writes the key in far less


def local_admin_key(data_dir: Path) -> tuple[str, Path]:
    """Give the key and its file; make them if the file is missing. Raises StoreUnavailable.

    If several workers start at once, exactly one of them makes the key: it creates the file
    exclusively, which file systems without hard links can do, too. The others wait for the key.
    """
    path = data_dir / "admin-key"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return _written(path), path
        key = secrets.token_urlsafe(32)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key)
    except (OSError, UnicodeError) as error:
        raise StoreUnavailable(f"The admin key cannot be kept in {path}: {error}.") from error
    return key, path


def _written(path: Path) -> str:
    """Wait for the key in the file. Raises StoreUnavailable, OSError, UnicodeError."""
    until = time.monotonic() + WRITING_SECONDS
    while not (key := path.read_text(encoding="ascii").strip()):
        if time.monotonic() > until:
            raise StoreUnavailable(
                f"{path} is empty: the process that made it died before it wrote the admin key. "
                "Delete the file, and start again."
            )
        time.sleep(0.02)
    return key
