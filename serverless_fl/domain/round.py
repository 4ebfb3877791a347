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
    """The state of a round.

    `SEALED` makes acceptance exact (docs/decisions/0005). The coordinator stores an update first,
    and the update counts if the round was not sealed by then. The coordinator reads the list of
    updates only after the seal, so the list holds every update that counts.
    """

    ADVERTISING = "advertising"  # secure aggregation: the cohort makes keys for this attempt
    SHARING = "sharing"  # secure aggregation: those with keys share their secrets out
    COLLECTING = "collecting"  # the cohort trains and uploads
    SEALED = "sealed"  # no further update counts; the list of accepted updates is not written yet
    CONFIRMING = "confirming"  # secure aggregation: those in the list sign it, if all can
    # secure aggregation: those in the list hand in shares of secrets, or the helper is asked
    UNMASKING = "unmasking"
    AGGREGATING = "aggregating"  # the list is written; the holder of the lease averages it
    CLOSED = "closed"  # the store holds the new model version
    ABANDONED = "abandoned"  # the experiment ended before the round closed


_S = RoundState
PHASES = frozenset(
    {_S.ADVERTISING, _S.SHARING, _S.CONFIRMING, _S.UNMASKING}
)  # of secure aggregation alone
MOVES: Mapping[RoundState, frozenset[RoundState]] = {
    _S.ADVERTISING: frozenset({_S.ADVERTISING, _S.SHARING, _S.ABANDONED}),
    _S.SHARING: frozenset({_S.SHARING, _S.COLLECTING, _S.ADVERTISING, _S.ABANDONED}),
    _S.COLLECTING: frozenset({_S.COLLECTING, _S.SEALED, _S.ADVERTISING, _S.ABANDONED}),
    _S.SEALED: frozenset({_S.AGGREGATING, _S.CONFIRMING, _S.UNMASKING, _S.ABANDONED}),
    _S.CONFIRMING: frozenset({_S.CONFIRMING, _S.UNMASKING, _S.ADVERTISING, _S.ABANDONED}),
    _S.UNMASKING: frozenset(
        {_S.UNMASKING, _S.AGGREGATING, _S.ADVERTISING, _S.COLLECTING, _S.ABANDONED}
    ),
    _S.AGGREGATING: frozenset({_S.AGGREGATING, _S.CLOSED, _S.ADVERTISING, _S.ABANDONED}),
    _S.CLOSED: frozenset(),
    _S.ABANDONED: frozenset({_S.ABANDONED}),
}


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The exclusive right of one process to work on an aggregation, or on a group, for a time.

    It ends at `expires_at`, or earlier if the owner gave it back (`released`). `fence` grows with
    each lease on the same thing. `deaths` counts the last owners in a row that let their lease
    expire.
    """

    owner: str
    expires_at: float
    fence: int
    released: bool = False
    deaths: int = 0


@final
@dataclass(frozen=True, kw_only=True)
class FullGroup:
    """A group whose updates are all in, so that the coordinator sums it before the round closes.

    `done`: the store holds all its sums. `seconds`: the time that the sums took so far.
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
    """The size of an aggregation's cells. The round records it, so every process cuts alike.

    A cell is a span of `span_bytes` bytes of the model times a group of `group_size` clients.
    """

    span_bytes: int
    group_size: int


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An attempt at a round that ended without a quorum.

    It ended at its deadline, or earlier because no client of the cohort was left to report.
    `unopened`: under secure aggregation it ended because its masks could not be taken off.
    """

    attempt: int
    cohort: tuple[int, ...]
    reported: tuple[int, ...]
    refused: tuple[int, ...]
    ended_at: float
    revoked: tuple[int, ...] = ()  # clients that were revoked before they reported
    unopened: bool = False

    @property
    def settled(self) -> frozenset[int]:
        """The slots that could not report any more."""
        return frozenset({*self.reported, *self.refused, *self.revoked})


@dataclass(frozen=True, kw_only=True)
class Round:
    """One cycle of an experiment: round n trains from model version n - 1 and produces version n.

    Slots stand for clients. `accepted` and `revoked` are written after the seal and stay. `clients`
    is the number of those that could be drawn into its cohort. `weights` are the weights of the
    accepted updates in the mean, in their order, if the strategy takes them from all updates
    together.

    `masked`: the updates are masked, and each attempt has its own. Then `invited` are the clients
    that the attempt began with, `roster` those of them that made keys, and the cohort, from then on
    that collects, are those that shared their secrets. `wrong_shares` are those whose shares of
    secrets did not fit the others' when the round was closed. `helped`: a helper knows the masks.
    Such a round begins with collecting; while it is unmasking its deadline is when the helper is
    asked again, and `helper_counts` are what the helper adds to the masked counts.
    """

    experiment_id: str
    number: int
    cohort: tuple[int, ...]  # ascending
    opened_at: float
    deadline: float
    attempt: int = 1
    clients: int = 0  # 0 in older rounds
    state: RoundState = RoundState.COLLECTING
    accepted: tuple[int, ...] = ()
    revoked: tuple[int, ...] = ()  # members of the cohort that were revoked before they reported
    lost: tuple[int, ...] = ()  # accepted updates whose bytes are missing or damaged now
    weights: tuple[float, ...] = ()
    lease: Lease | None = None
    cut: Cut | None = None  # written at the opening; in older rounds together with `accepted`
    earlier: tuple[Attempt, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    num_examples: int = 0
    update_bytes: int = 0
    aggregation_seconds: float | None = None
    closed_at: float | None = None
    usage: Usage | None = None  # the estimated usage of a closed round
    masked: bool = False
    helped: bool = False
    helper_counts: str = ""  # hexadecimal
    invited: tuple[int, ...] = ()
    roster: tuple[int, ...] = ()
    wrong_shares: tuple[int, ...] = ()
    swept: bool = False  # an abandoned round: the blob store holds nothing of it any more
    revision: int = field(default=0, compare=False)

    @property
    def base_version(self) -> int:
        return self.number - 1

    @property
    def updates_attempt(self) -> int:
        """The attempt that the updates belong to; 0 where those of all attempts count."""
        return self.attempt if self.masked else 0

    @property
    def asked(self) -> frozenset[int]:
        """The slots in the cohort of any attempt."""
        return frozenset(self.cohort).union(*(attempt.cohort for attempt in self.earlier))

    @property
    def awaited(self) -> tuple[int, ...]:
        """The slots that the round's state waits for."""
        if self.state is RoundState.SHARING:
            return self.roster
        if self.state is RoundState.UNMASKING:
            return () if self.helped else self.accepted
        return self.accepted if self.state is RoundState.CONFIRMING else self.cohort

    @property
    def group_count(self) -> int:
        """The number of groups that are summed before the round closes; 0 for a single group."""
        if self.cut is None or len(self.cohort) <= self.cut.group_size:
            return 0
        return -(-len(self.cohort) // self.cut.group_size)

    def group_of(self, slot: int) -> int:
        """Give the number of the group that holds a slot of the cohort."""
        return bisect_left(self.cohort, slot) // self.cut.group_size if self.cut else 0

    def members(self, group: int) -> tuple[int, ...]:
        """Give the slots of a group. `provenance.groups` groups the reported slots alike."""
        size = self.cut.group_size if self.group_count and self.cut else 0
        return self.cohort[group * size : (group + 1) * size]

    def silent(self, slots: Collection[int], heard: Collection[int]) -> tuple[int, ...]:
        """Give the members of the cohort that are in `slots` and not in `heard`."""
        return tuple(s for s in self.cohort if s in slots and s not in heard)

    def move(self, state: RoundState, **changes: Any) -> Round:
        """Give this round in another state. Raises Conflict if `MOVES` lacks the move."""
        if state not in MOVES[self.state]:
            raise Conflict(f"Round {self.number} is {self.state}; it cannot become {state}.")
        return replace(self, state=state, **changes)
