"""How times and slots are written in bodies."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from serverless_fl.domain.records import client_id


def time_of(seconds: float) -> datetime:
    """A time in UTC, of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def optional_time_of(seconds: float | None) -> datetime | None:
    """As `time_of`; None stays None."""
    return None if seconds is None else time_of(seconds)


def ids_of(slots: Iterable[int]) -> list[str]:
    """The clients' ids."""
    return [client_id(slot) for slot in slots]
