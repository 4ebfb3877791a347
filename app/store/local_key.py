"""The admin key that a coordinator makes for its machine: one file beside the database."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

from serverless_fl.domain.errors import StoreUnavailable

WRITING_SECONDS = 5.0  # far longer than a process takes to write a line


def local_admin_key(data_dir: Path) -> tuple[str, Path]:
    """The key and its file, which is made where it is missing. Raises StoreUnavailable.

    Of several workers that start at once exactly one makes it: the file is created exclusively,
    which file systems without hard links can do, too. The others wait until it is written.
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
    """Raises StoreUnavailable, OSError, UnicodeError."""
    until = time.monotonic() + WRITING_SECONDS
    while not (key := path.read_text(encoding="ascii").strip()):
        if time.monotonic() > until:
            raise StoreUnavailable(
                f"{path} is empty: whoever made it died before writing the admin key. Delete it, "
                "and start again."
            )
        time.sleep(0.02)
    return key
