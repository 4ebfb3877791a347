"""A run's folder, and the secrets in it with which the run can be resumed."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

from pydantic import BaseModel, ValidationError

from client_sdk import file_lock
from client_sdk.errors import UsageError
from client_sdk.results.files import create_file

RUNS = Path("runs")
_FILE = "run.json"


class Secrets(BaseModel):
    """The content of run.json.

    All of the run's clients have keys that are made from `secret`. `admin_key` is the key of the
    run's own coordinator, and `helper_admin_key` that of its helper.
    """

    secret: str
    admin_key: str

    @property
    def helper_admin_key(self) -> str:
        return hmac.new(self.secret.encode(), b"helper", hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one run."""

    path: Path
    secrets: Secrets

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder. Raises UsageError where one is at work there."""
        file = self.path / _FILE
        try:
            descriptor = os.open(file, os.O_RDWR)
        except OSError as error:
            raise UsageError(f"Cannot write to {self.path}: {error}.") from error
        try:
            try:
                free = file_lock.take(descriptor)
            except OSError as error:
                raise UsageError(f"Cannot lock {file}: {error.strerror}.") from error
            if not free:
                raise UsageError(
                    f"Another process is at the run in {self.path}: wait for its end, or choose "
                    "another --out."
                )
            yield
        finally:
            os.close(descriptor)  # which gives the lock back


def new(path: Path | None) -> RunFolder:
    """A folder for a new run, at `path` or in runs/ under the time of day. Raises UsageError."""
    try:
        if path is None:
            path = _make_folder(RUNS / datetime.now().astimezone().strftime("%Y%m%d-%H%M%S"))
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"Cannot write to {path or RUNS}: {error}.") from error
    made = Secrets(secret=secrets.token_urlsafe(32), admin_key=secrets.token_urlsafe(32))
    try:
        create_file(path / _FILE, made.model_dump_json().encode(), mode=0o600)
    except FileExistsError as error:
        raise UsageError(
            f"{path} holds a run already: add --resume, or choose another --out."
        ) from error
    except OSError as error:
        raise UsageError(f"Cannot write to {path}: {error}.") from error
    return RunFolder(path, made)


def resume(path: Path | None, purpose: str = "resume") -> RunFolder:
    """The folder of an earlier run, at `path` or the latest in runs/.

    Raises UsageError, which says that there is none to `purpose`.
    """
    path = path or _latest(purpose)
    file = path / _FILE
    try:
        return RunFolder(path, Secrets.model_validate_json(file.read_bytes()))
    except OSError as error:
        raise UsageError(f"There is no run in {path} to {purpose}: {error.strerror}.") from error
    except ValidationError as error:
        raise UsageError(
            f"There is no run in {path} to {purpose}: {file} holds no secrets."
        ) from error


def _make_folder(wanted: Path) -> Path:
    """A folder of that name, or with a number behind it: several runs may begin in one second."""
    for number in count(2):
        try:
            wanted.mkdir(parents=True)
        except FileExistsError:
            wanted = wanted.with_name(f"{wanted.name.partition('_')[0]}_{number}")
        else:
            break
    return wanted


def _latest(purpose: str) -> Path:
    found = sorted(RUNS.glob(f"*/{_FILE}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UsageError(f"There is no run under runs/ to {purpose}.")
    return found[-1].parent
