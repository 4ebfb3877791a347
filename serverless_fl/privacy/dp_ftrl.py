"""DP-FTRL: differential privacy of clients whose cohorts need not be random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from serverless_fl.domain.experiment import Config
from serverless_fl.domain.ledger import LedgerEntry
from serverless_fl.privacy import tree
from serverless_fl.privacy.client_level import ClientLevel


class DpFtrl(ClientLevel):
    """Adds noise to sums of rounds, by a tree, so that it grows with the logarithm of the rounds.

    Kairouz et al., "Practical and Private (Deep) Learning Without Sampling or Shuffling", 2021,
    arXiv:2103.00039. Choose it where anybody may know who takes part, for many rounds in which each
    client is seldom; the selection `least-recent` keeps its rounds apart. `noise_multiplier` is
    that of each sum. A client that is several times in one sum pays for it by the square, so the
    ledger counts the rounds in which each client really was. Cohorts may depend on what anybody
    sees: Denisov et al., 2022, arXiv:2202.08312, show that such sums cost no more.
    """

    name: Literal["dp-ftrl"] = "dp-ftrl"

    def within(self, config: Config) -> Self:
        found = self.model_copy()
        found._divisor = config.clients_per_round
        return found

    def fault(self, config: Config) -> str | None:
        if self.max_weight is not None:
            return (
                f"max_weight ({self.max_weight}) divides each round by another weight, but privacy "
                f"{self.name} adds rounds up: leave it out."
            )
        if config.secret_cohorts:
            return (
                f"privacy {self.name} needs no secret cohorts, and its number does not count on "
                "them: take selection least-recent, or privacy dp-fedavg."
            )
        if extra := config.schedule.settings.get("over_selection"):
            return (
                f"over_selection ({extra}) makes cohorts of other sizes, but privacy {self.name} "
                "divides each round by clients_per_round: leave it out."
            )
        return super().fault(config)

    def replaced(self, number: int) -> Sequence[int]:
        return tree.replaced(number)

    def coming(self, entry: LedgerEntry | None) -> float:
        return self.epsilon(1 if entry is None else entry.next_squares or 1)

    def paid(self, rounds: Sequence[Sequence[int]]) -> dict[str, Any]:
        squares = tree.squares(rounds)
        return {
            "epsilon": self.epsilon(squares.now),
            "participations": self.participations(rounds),
            "squares": squares.now,
            "next_squares": squares.coming,
        }
