"""Where `join` keeps a client's secret: a file for one coordinator, locked by one process.

A process with a client's key is that client. So the file names the coordinator that the key was
made for, `join` sends the key to no other, and the lock keeps two processes from being one client.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from client_sdk import file_lock
from client_sdk.api import address
from client_sdk.errors import UsageError
from serverless_fl.wire.schema import CLIENT_KEY

FOLDER = Path(".serverless-fl")
_LONGEST = 4096  # bytes
_KEY = re.compile(CLIENT_KEY)


def default_path(server: str, experiment: str, name: str) -> Path:
    """The file of one client of one experiment of one coordinator.

    Its name ends in a digest of all three, for what a file's name cannot hold. Raises BadSettings.
    """
    owner = json.dumps([address.origin(server), experiment, name])
    digest = hashlib.sha256(owner.encode()).hexdigest()[:16]
    return FOLDER / f"{_stem(experiment, name)}-{digest}.key"


@contextlib.contextmanager
def hold(path: Path | None, server: str, experiment: str, name: str) -> Iterator[str]:
    """Lock the key's file, by default `default_path`, and give the key; make one in a new file.

    Raises UsageError where the key is another coordinator's or in use, or where the file cannot be
    read or written.
    """
    if path is None:
        path = default_path(server, experiment, name)
        _refuse_earlier(path, experiment, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open(path)
    except OSError as error:
        raise _cannot(path, error) from error
    try:
        try:
            if not file_lock.take(descriptor):
                raise UsageError(
                    f"Another join goes as this client: it holds {path}. A second client on this "
                    "machine needs a --name or a --key-file of its own."
                )
            text = os.read(descriptor, _LONGEST).decode()
            if not text.strip():
                text = json.dumps(
                    {"server": address.origin(server), "client_key": secrets.token_urlsafe(32)}
                )
                os.write(descriptor, f"{text}\n".encode())
                os.fsync(descriptor)
        except OSError as error:
            raise _cannot(path, error) from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} holds no client's key, but other bytes.") from error
        yield _key_in(text, path, server)
    finally:
        os.close(descriptor)  # which gives the lock back


def _open(path: Path) -> int:
    """Open for reading and writing, or for reading alone where a secret is mounted read-only."""
    flags = os.O_CLOEXEC if hasattr(os, "O_CLOEXEC") else 0
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM) or not path.exists():
            raise
        return os.open(path, os.O_RDONLY | flags)


def _key_in(text: str, path: Path, server: str) -> str:
    """The key in the file's text. Raises UsageError where there is none for this coordinator."""
    own = address.origin(server)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = text.strip()  # a key alone, which a person wrote there
    if isinstance(found, dict):
        if found.get("server") != own:
            raise UsageError(
                f"{path} holds a client's key of another coordinator, {found.get('server')!r}, "
                f"which {own} must not see: give another --key-file, or, if the coordinator has "
                f"moved, write its new address there."
            )
        found = found.get("client_key")
    if not isinstance(found, str) or not _KEY.fullmatch(found):
        raise UsageError(
            f"{path} holds no client's key: that has 32 to 128 letters, digits, '-' and '_'."
        )
    return found


def _stem(experiment: str, name: str) -> str:
    """The readable part of a file's name."""
    return "-".join(
        "".join(c if c.isascii() and c.isalnum() else "-" for c in text[:40])
        for text in (experiment, name)
        if text
    )


def _refuse_earlier(path: Path, experiment: str, name: str) -> None:
    """Raise UsageError for a key of an earlier version, which wrote no coordinator's address."""
    plain = "".join(c if c.isalnum() else "-" for c in name)[:40]
    stem = "-".join(part for part in (experiment, plain) if part)
    earlier = FOLDER / f"{stem}.key"
    if not path.exists() and earlier.is_file():
        raise UsageError(
            f"{earlier} is of an earlier version and does not say which coordinator its key is "
            f"for: if it is this one, add --key-file {earlier}; if not, move it away."
        )


def _cannot(path: Path, error: OSError) -> UsageError:
    return UsageError(f"Cannot keep this client's key in {path}: {error.strerror or error}.")
