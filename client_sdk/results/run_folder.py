"""A run's folder, and the secrets in it with which the run can be resumed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from client_sdk import file_lock
from client_sdk.exits import UsageError
from client_sdk.results import report

RUNS = Path("runs")


class Secrets(BaseModel):
    """Who has the first is all of the run's clients; the second is its own coordinator's key."""

    secret: str = Field(default_factory=lambda: secrets.token_urlsafe(32))
    admin_key: str = Field(default_factory=lambda: secrets.token_urlsafe(32))


class _Saved(Secrets):
    secret: str
    admin_key: str


def choose(out: Path | None, resume: bool) -> tuple[Path, Secrets]:
    """The folder, new or (with `resume`) as it was left. Raises UsageError."""
    if resume:
        out = out or _latest()
        return out, _saved(out)
    made = Secrets()
    try:
        if out is None:
            out = _new_folder(RUNS / datetime.now().astimezone().strftime("%Y%m%d-%H%M%S"))
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"Cannot write to {out or RUNS}: {error}.") from error
    try:
        report.create_file(out / "run.json", made.model_dump_json().encode(), mode=0o600)
    except FileExistsError as error:
        raise UsageError(
            f"{out} holds a run already: add --resume, or choose another --out."
        ) from error
    except OSError as error:
        raise UsageError(f"Cannot write to {out}: {error}.") from error
    return out, made


@contextmanager
def held(out: Path) -> Iterator[None]:
    """The folder belongs to this process alone. Raises UsageError where it is another's."""
    try:
        descriptor = os.open(out / "run.json", os.O_RDWR)
    except OSError as error:
        raise UsageError(f"Cannot write to {out}: {error}.") from error
    try:
        try:
            free = file_lock.take(descriptor)
        except OSError as error:
            raise UsageError(f"Cannot lock {out / 'run.json'}: {error.strerror}.") from error
        if not free:
            raise UsageError(
                f"Another process is at the run in {out}: wait for its end, or choose another "
                "--out."
            )
        yield
    finally:
        os.close(descriptor)  # which gives the lock back


def _new_folder(wanted: Path) -> Path:
    """A folder of that name, or with a number behind it: several runs may begin in one second."""
    for number in count(2):
        try:
            wanted.mkdir(parents=True)
        except FileExistsError:
            wanted = wanted.with_name(f"{wanted.name.partition('_')[0]}_{number}")
        else:
            break
    return wanted


def _latest() -> Path:
    found = sorted(RUNS.glob("*/run.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UsageError("There is no run under runs/ to resume.")
    return found[-1].parent


def _saved(out: Path) -> Secrets:
    path = out / "run.json"
    try:
        return _Saved.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"There is no run in {out} to resume: {error.strerror}.") from error
    except ValidationError as error:
        raise UsageError(f"There is no run in {out} to resume: {path} holds no secrets.") from error
