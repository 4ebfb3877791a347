"""DP-FedAvg whose clipping norm follows a quantile of the updates' norms."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from serverless_fl.domain.experiment import Config
from serverless_fl.domain.ledger import LedgerEntry
from serverless_fl.privacy.client_level import ClientLevel
from serverless_fl.privacy.mechanism import Taken


class DpAdaptive(ClientLevel):
    """DP-FedAvg whose clipping norm follows a quantile of the updates' norms.

    Andrew et al., "Differentially Private Learning with Adaptive Clipping", 2021,
    arXiv:1905.03871. Choose it where nobody knows how long updates are: `clip_norm` is only the
    first round's. The share of updates within the norm is counted with noise of its own, and the
    noise on the weights is raised so that both together cost what `noise_multiplier` says.
    """

    name: Literal["dp-adaptive"] = "dp-adaptive"
    clip_norm: float = Field(
        0.1,
        gt=0,
        le=1e6,
        description="The longest distance of an update from its base model that counts; a longer "
        "one is scaled down to it",
    )
    clip_quantile: float = Field(
        0.5, gt=0, lt=1, description="The share of updates that should be within the clipping norm"
    )
    clip_learning_rate: float = Field(
        0.2, gt=0, le=2, description="How fast the clipping norm follows that share"
    )
    count_noise: float = Field(
        1.0,
        gt=0,
        le=10_000,
        description="Standard deviation of the noise on the number of updates within the norm; "
        "Andrew et al. take a twentieth of the cohort",
    )

    def fault(self, config: Config) -> str | None:
        if 2 * self.count_noise <= self.noise_multiplier:
            return (
                f"count_noise ({self.count_noise:g}) must be more than half of noise_multiplier "
                f"({self.noise_multiplier:g}): else the count alone costs more than a round may."
            )
        return super().fault(config)

    @property
    def updates_multiplier(self) -> float:
        """Theorem 1 of Andrew et al.: one of two releases that together cost `noise_multiplier`.

        The count is of numbers that are -1/2 or 1/2, so its sensitivity is 1/2.
        """
        count = 2 * self.count_noise
        total = self.noise_multiplier
        return 1 / math.sqrt(1 / (total * total) - 1 / (count * count))

    def clip_in(self, before: LedgerEntry | None) -> float:
        return self.clip_norm if before is None else before.next_clip

    def next_clip(self, before: LedgerEntry | None, taken: Taken, key: bytes) -> float:
        """A norm grows while fewer updates than the quantile are within it, and else shrinks."""
        from serverless_fl.privacy.noise import Noise

        count = sum(0.5 if whole else -0.5 for whole in taken.whole)
        count += self.count_noise * Noise(key, 1.0).of_word("count")
        updates = len(taken.whole) if self._divisor is None else self._divisor
        share = count / updates + 0.5
        power = -self.clip_learning_rate * (share - self.clip_quantile)
        moved = self.clip_in(before) * math.exp(max(-20.0, min(20.0, power)))
        return max(1e-9, min(1e9, moved))
