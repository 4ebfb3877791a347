"""The contract of a schedule: whom a round invites, when it is due, and what an update weighs.

A schedule is a pure function of the experiment's settings, of the round's record and of what the
store holds. It writes nothing: the state machine (`app.service.rounds.machine`) asks it, and does
what it says by one write. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from serverless_fl.domain.round import Round
from serverless_fl.schedule.selection import Known, Reads


class Due(StrEnum):
    """What a collecting round has to do now."""

    NOTHING = "nothing"  # it waits for updates, or for its deadline
    CLOSE = "close"  # it takes no more updates, and is aggregated
    REPEAT = "repeat"  # it has too few updates: another attempt, or the experiment fails


@dataclass(frozen=True, kw_only=True)
class Heard:
    """The slots that a round has heard of: their updates came, or none is to be expected."""

    reported: tuple[int, ...]
    refused: tuple[int, ...] = ()
    revoked: tuple[int, ...] = ()  # members of the cohort that neither reported nor were refused

    def covers(self, slots: Collection[int]) -> bool:
        """Say whether each of these slots has been heard of."""
        return set(slots) <= {*self.reported, *self.refused, *self.revoked}


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """A question whom to invite to an attempt at a round.

    `enrolled` are the slots that may be invited. For a further attempt, `reported` are the slots
    whose updates stay, and `absent` the cohort of the attempt before. `known` is what the store
    holds of clients, as far as the schedule `reads` it.
    """

    number: int
    attempt: int
    enrolled: Sequence[int]
    reported: Collection[int] = ()
    absent: Collection[int] = ()
    known: Mapping[int, Known] = field(default_factory=dict)


class Schedule(Protocol):
    """The rules of an experiment's rounds."""

    @property
    def size(self) -> int:
        """The number of clients that an attempt invites where enough are enrolled."""
        ...

    @property
    def reads(self) -> Reads:
        """What `invite` has to know of clients."""
        ...

    def invite(self, asked: Invitation) -> tuple[int, ...]:
        """Give the cohort of an attempt: slots, ascending."""
        ...

    def deadline(self, now: float) -> float:
        """Give the deadline of an attempt that begins now."""
        ...

    def latest_deadline(self, round_: Round, heard: Heard, now: float) -> float:
        """Give the latest deadline that the open attempt may have, by what was heard so far.

        The state machine moves a later deadline to it.
        """
        ...

    def due(self, round_: Round, heard: Heard, now: float) -> Due:
        """Say what a collecting round has to do."""
        ...

    def counts_to(self, round_: Round, now: float) -> int | None:
        """Give the number of updates at which something is due before the whole cohort was heard.

        None: nothing is. An upload then finds out without counting whether it was the last one.
        """
        ...

    def repeats(self, round_: Round) -> bool:
        """Say whether a round with too few updates may have another attempt."""
        ...

    def weight(self, round_: Round, slot: int) -> float:
        """Give a factor on the weight that the strategy gives an accepted update: positive."""
        ...
