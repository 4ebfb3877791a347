"""Whose work is being done: the ids that each log line written meanwhile carries, at any floor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter


@dataclass(slots=True)
class Ids:
    """What is known so far of the request that is answered, or of the tick that is done.

    One object a request, filled in as it is understood: a context variable that is set in a
    dependency's thread is not seen outside of it, a changed object is. `code` is that of the
    problem that is answered.
    """

    request_id: str | None = None
    experiment: str | None = None
    round: int | None = None
    client: str | None = None
    code: str | None = None
    held: float = 0.0  # seconds that the answer was held back on purpose

    def known(self) -> dict[str, str | int]:
        """The ids that are known, by name."""
        named = (
            ("request_id", self.request_id),
            ("experiment", self.experiment),
            ("round", self.round),
            ("client", self.client),
        )
        return {name: value for name, value in named if value is not None}


_current: ContextVar[Ids | None] = ContextVar("ids", default=None)


def current() -> Ids | None:
    return _current.get()


def request_id() -> str | None:
    """The id of the request that is being answered."""
    ids = _current.get()
    return None if ids is None else ids.request_id


@contextmanager
def belonging_to(request_id: str | None = None) -> Iterator[Ids]:
    """What is done within belongs together."""
    token = _current.set(ids := Ids(request_id))
    try:
        yield ids
    finally:
        _current.reset(token)


@contextmanager
def holding() -> Iterator[None]:
    """What is done within is to wait, and no work."""
    started = perf_counter()
    try:
        yield
    finally:
        if (ids := _current.get()) is not None:
            ids.held += perf_counter() - started


def note(
    *,
    experiment: str | None = None,
    round: int | None = None,
    client: str | None = None,
    code: str | None = None,
) -> None:
    """Add what has become known. Only what was looked up: what a caller sent may be a secret."""
    ids = _current.get()
    if ids is None:
        return
    ids.experiment = experiment or ids.experiment
    ids.round = ids.round if round is None else round
    ids.client = client or ids.client
    ids.code = code or ids.code
