"""The ledger of privacy: what each model version costs, and what all versions so far have."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

NOTHING_SPENT = "No model has been made of clients' data yet, so nothing is spent."


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """The entry of a model version.

    `clip`: the longest distance of an update from its base that counts in this version, and
    `next_clip` in the next one. `deviation`: the standard deviation of the noise on each weight of
    the updates' mean. `round_epsilon`: what this version alone costs a client that took part in
    it. `epsilon`: what all versions so far cost the client that took part most often,
    `participations` times. Both hold with `delta`. `secret_sha256` is the SHA-256 of the secret
    that the noise is drawn from.

    With DP-FTRL `squares` is the squared sensitivity of all sums with noise, for the client that
    pays most, in units of `clip`, and `next_squares` what another round could make of it.

    With secret cohorts `sampling_rate` is a client's chance to take part in a round. Then both
    numbers count on nobody knowing who did, and `participations` are all rounds so far.
    """

    clip: float
    next_clip: float
    deviation: float
    round_epsilon: float
    epsilon: float
    delta: float
    participations: int
    secret_sha256: str
    sampling_rate: float | None = None
    squares: int | None = None
    next_squares: int | None = None

    @property
    def meaning(self) -> str:
        """What the number means, in two or three sentences."""
        times = f"{math.exp(self.epsilon):,.2g}" if self.epsilon < 20 else "more than 400 million"
        if 2 <= self.epsilon < 7:
            times = f"{math.exp(self.epsilon):,.0f}"
        promise = "" if self.epsilon <= 10 else " An epsilon above 10 promises little."
        return (
            "If one client had contributed nothing, models like these would be at most "
            f"{times} times more or less likely, but for a probability of {self.delta:g} (delta). "
            f"{self._counted}; the metrics that clients report are not covered.{promise}"
        )

    @property
    def _counted(self) -> str:
        """Whether amplification by sampling is claimed, and for which client the number holds."""
        if self.squares is not None:
            return (
                "That is for the client that pays most for the sums of rounds in which it is (tree "
                f"aggregation, no sampling); no client took part more than {self.participations} "
                "times"
            )
        if self.sampling_rate is None:
            return f"That is for the client that took part most often, {self.participations} times"
        return (
            f"That is for any client, after {self.participations} rounds with a chance of "
            f"{self.sampling_rate:.3g} to take part in each (amplification by sampling), and holds "
            "against those who are not shown who took part"
        )

    @property
    def plain(self) -> dict[str, Any]:
        """The form of documents and digests. It lacks what this mechanism does not have."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def most_participations(rounds: Iterable[Iterable[int]]) -> int:
    """Give how often the slot took part that took part most often, of the slots of each round."""
    counts: dict[int, int] = {}
    for slots in rounds:
        for slot in slots:
            counts[slot] = counts.get(slot, 0) + 1
    return max(counts.values(), default=0)
