"""The lineage of an experiment: the model that it begins from, and raises of its rounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

MAX_EXTENSIONS = 100  # of an experiment; its models' digests need all of them


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The model that an experiment begins from: a version of an experiment, here or elsewhere.

    `sha256` is of the model's file, and so of the experiment's own version 0.
    """

    experiment: str
    version: int
    sha256: str

    def __str__(self) -> str:
        return f"model {self.version} of {self.experiment}, SHA-256 {self.sha256}"


class Raise(Protocol):
    """What the settings of a model follow from."""

    @property
    def before(self) -> int: ...
    @property
    def after_round(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Extension:
    """A raise of the number of rounds from `before` to `rounds`.

    It counts from the round behind `after_round` on, which was the open or the last one. If it
    continued a completed experiment, `ended_at`, `ended_by` and `reason` are those of that end.
    """

    before: int
    rounds: int
    after_round: int
    extended_at: float
    extended_by: str
    ended_at: float | None = None
    ended_by: str = ""
    reason: str = ""

    @property
    def idle_seconds(self) -> float:
        """How long the experiment had ended."""
        return 0.0 if self.ended_at is None else max(0.0, self.extended_at - self.ended_at)


def rounds_of(version: int, rounds: int, extensions: Iterable[Raise]) -> int:
    """Give the number of rounds in the settings that a model version was made with.

    `rounds` is the present number, and `extensions` are all raises in their order. So the digest of
    a model's settings stays what it was, whoever raised the number while its round was open.
    """
    return next((e.before for e in extensions if version <= e.after_round), rounds)
