"""The contract of a schedule: whom a round invites, when it is due, and what an update weighs.

A schedule is an alternative whose fields are its settings, and whose methods are its rules: pure
functions of the experiment's settings, of the round's record and of what the store holds. It writes
nothing. The state machine (`app.service.rounds.machine`) asks it, and does what it says by one
write. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from serverless_fl.alternatives import Alternative
from serverless_fl.domain.experiment import Config
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
    holds of clients, and `secret` the experiment's secret, as far as the schedule `reads` them.
    """

    number: int
    attempt: int
    enrolled: Sequence[int]
    reported: Collection[int] = ()
    absent: Collection[int] = ()
    known: Mapping[int, Known] = field(default_factory=dict)
    secret: bytes = field(default=b"", repr=False)


class Schedule(Alternative):
    """A schedule with its settings. Each rule gets the settings of the experiment as `config`."""

    def fault(self, config: Config) -> str | None:
        """Say why the experiment's other settings do not suit; None if they do."""
        return None

    def size(self, config: Config) -> int:
        """Give the number of clients that an attempt invites where enough are enrolled."""
        raise NotImplementedError

    def reads(self, config: Config) -> Reads:
        """Say what `invite` has to know of clients."""
        raise NotImplementedError

    def invite(self, config: Config, asked: Invitation) -> tuple[int, ...]:
        """Give the cohort of an attempt: slots, ascending."""
        raise NotImplementedError

    def deadline(self, config: Config, now: float) -> float:
        """Give the deadline of an attempt that begins now."""
        raise NotImplementedError

    def latest_deadline(self, config: Config, round_: Round, heard: Heard, now: float) -> float:
        """Give the latest deadline that the open attempt may have, by what was heard so far.

        The state machine moves a later deadline to it.
        """
        raise NotImplementedError

    def due(self, config: Config, round_: Round, heard: Heard, now: float) -> Due:
        """Say what a collecting round has to do."""
        raise NotImplementedError

    def counts_to(self, config: Config, round_: Round, now: float) -> int | None:
        """Give the number of updates at which something is due before the whole cohort was heard.

        None: nothing is, so an upload need not count the others.
        """
        raise NotImplementedError

    @property
    def max_age(self) -> int | None:
        """The most versions that may be made between a client's base model and its update.

        None: an update counts for the round that its client was asked for, and for no other.
        """
        return None

    def share(self, age: int) -> float:
        """Give the share of an update's distance from its base model that counts: 0 to 1.

        `age` is the number of versions that were made since that model.
        """
        return 1.0

    def repeats(self, config: Config, round_: Round) -> bool:
        """Say whether a round with too few updates may have another attempt."""
        raise NotImplementedError
