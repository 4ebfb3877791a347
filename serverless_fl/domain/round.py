"""A round: its cohort, its deadline, its lease and the legal moves between its states."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, final

from serverless_fl.domain.errors import Conflict
from serverless_fl.domain.prices import Usage


class RoundState(StrEnum):
    """Where a round stands.

    `SEALED` is what makes acceptance exact: an update is stored first and counts if the round was
    not sealed by then; the list of updates is read only after the seal, so it holds every one of
    them (docs/decisions/0005).
    """

    COLLECTING = "collecting"  # the cohort trains and uploads
    SEALED = "sealed"  # no further update counts; the list is about to be frozen
    AGGREGATING = "aggregating"  # the list is frozen; the holder of the lease averages it
    CLOSED = "closed"  # the new model version is stored
    ABANDONED = "abandoned"  # the experiment ended first


_S = RoundState
MOVES: Mapping[RoundState, frozenset[RoundState]] = {
    _S.COLLECTING: frozenset({_S.COLLECTING, _S.SEALED, _S.ABANDONED}),
    _S.SEALED: frozenset({_S.AGGREGATING, _S.ABANDONED}),
    _S.AGGREGATING: frozenset({_S.AGGREGATING, _S.CLOSED, _S.ABANDONED}),
    _S.CLOSED: frozenset(),
    _S.ABANDONED: frozenset({_S.ABANDONED}),
}


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A process's word that it works on an aggregation, or on a group of it, until `expires_at`.

    `fence` numbers the leases on one thing, and only ever grows. `released`: the owner stopped, and
    the next call goes on at once. `deaths` counts the owners in a row that said nothing of their
    end.
    """

    owner: str
    expires_at: float
    fence: int
    released: bool = False
    deaths: int = 0


@final
@dataclass(frozen=True, kw_only=True)
class FullGroup:
    """A group of a round's cohort whose updates are summed before the round closes.

    `done`: all its sums are stored. `seconds`: the time spent on them so far.
    """

    experiment_id: str
    round: int
    attempt: int
    group: int
    lease: Lease
    done: bool = False
    seconds: float = 0.0
    revision: int = field(default=0, compare=False)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How the aggregation is cut into cells: settled once, for all that take part in it."""

    span_bytes: int
    group_size: int


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An attempt at a round that met its deadline, or its last answer, without a quorum."""

    attempt: int
    cohort: tuple[int, ...]
    reported: tuple[int, ...]
    refused: tuple[int, ...]
    ended_at: float
    revoked: tuple[int, ...] = ()  # before they reported

    @property
    def settled(self) -> frozenset[int]:
        """Of whom nothing more was to be expected."""
        return frozenset({*self.reported, *self.refused, *self.revoked})


@dataclass(frozen=True, kw_only=True)
class Round:
    """One cycle of an experiment. Slots number clients; `accepted` is frozen with the seal.

    Round n trains from model version n - 1 and produces version n.
    """

    experiment_id: str
    number: int
    cohort: tuple[int, ...]  # ascending
    opened_at: float
    deadline: float
    attempt: int = 1
    state: RoundState = RoundState.COLLECTING
    accepted: tuple[int, ...] = ()
    revoked: tuple[int, ...] = ()  # of the cohort, before they reported; frozen with the seal
    lost: tuple[int, ...] = ()  # were accepted, and are no more what they were, see `Spoilt`
    lease: Lease | None = None
    cut: Cut | None = None  # of rounds from before it was settled at the opening: with the list
    earlier: tuple[Attempt, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    num_examples: int = 0
    update_bytes: int = 0
    aggregation_seconds: float | None = None
    closed_at: float | None = None
    usage: Usage | None = None  # what it took, by estimate; of a closed round
    swept: bool = False  # of an abandoned round: nothing of it is left in the blob store
    revision: int = field(default=0, compare=False)

    @property
    def base_version(self) -> int:
        return self.number - 1

    @property
    def group_count(self) -> int:
        """How many groups of the cohort are folded as they fill; 0 where one holds all of it."""
        if self.cut is None or len(self.cohort) <= self.cut.group_size:
            return 0
        return -(-len(self.cohort) // self.cut.group_size)

    def group_of(self, slot: int) -> int:
        """The group that a slot of the cohort is in."""
        return bisect_left(self.cohort, slot) // self.cut.group_size if self.cut else 0

    def members(self, group: int) -> tuple[int, ...]:
        """The slots of a group. Of those that reported, `provenance.groups` makes the same ones."""
        size = self.cut.group_size if self.group_count and self.cut else 0
        return self.cohort[group * size : (group + 1) * size]

    def silent(self, slots: Collection[int], heard: Collection[int]) -> tuple[int, ...]:
        """Those of the cohort among `slots` that were not heard of."""
        return tuple(s for s in self.cohort if s in slots and s not in heard)

    def move(self, state: RoundState, **changes: Any) -> Round:
        """This round in its next state. Raises Conflict where the move is not a legal one."""
        if state not in MOVES[self.state]:
            raise Conflict(f"Round {self.number} is {self.state}; it cannot become {state}.")
        return replace(self, state=state, **changes)
