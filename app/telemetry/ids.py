"""The ids of the present request or tick: every log line that it writes carries them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter


@dataclass(slots=True)
class Ids:
    """The ids of a request, or of a tick, as far as they are known.

    A request has one object, which is filled in step by step. A context variable that FastAPI sets
    in a dependency's thread would not be seen outside that thread, but a changed object is. `code`
    is the code of the problem that the coordinator answers.
    """

    request_id: str | None = None
    experiment: str | None = None
    round: int | None = None
    client: str | None = None
    code: str | None = None
    person: str | None = None  # whose key it was; events that a person causes name it themselves
    held: float = 0.0  # seconds that a long poll held the answer back

    def known(self) -> dict[str, str | int]:
        """Give the known ids by name."""
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
    """Give the id of the present request."""
    ids = _current.get()
    return None if ids is None else ids.request_id


@contextmanager
def belonging_to(request_id: str | None = None) -> Iterator[Ids]:
    """Give the work within the block the same ids."""
    token = _current.set(ids := Ids(request_id))
    try:
        yield ids
    finally:
        _current.reset(token)


@contextmanager
def waiting() -> Iterator[None]:
    """Count the time within the block as waiting, not as work."""
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
    person: str | None = None,
) -> None:
    """Add ids to the present request's. Pass values from the store: a caller's may be secrets."""
    ids = _current.get()
    if ids is None:
        return
    ids.experiment = experiment or ids.experiment
    ids.round = ids.round if round is None else round
    ids.client = client or ids.client
    ids.code = code or ids.code
    ids.person = person or ids.person
