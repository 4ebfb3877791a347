"""Differential privacy of clients: each update is clipped, and their mean gets Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, PrivateAttr

from serverless_fl.domain.errors import BadWeights
from serverless_fl.domain.experiment import FEDERATED, HIDDEN, SYNCHRONOUS, Config
from serverless_fl.domain.ledger import LedgerEntry
from serverless_fl.privacy.accounting import epsilon_of
from serverless_fl.privacy.mechanism import Aggregator, Bounds, Mechanism, Taken
from serverless_fl.privacy.sampling import Sampling, sampled_epsilon, sampling_fault

if TYPE_CHECKING:
    from serverless_fl.privacy.noise import Noise
    from serverless_fl.weights.spans import Piece, Step

# Selections that see no update
_BLIND = ("uniform", "by-size", "least-recent", "responsive", HIDDEN)


class ClientLevel(Mechanism):
    """Clips each update, and adds Gaussian noise to their mean, in the coordinator.

    The promise is about a client's contribution: two runs that differ in whether a client adds
    anything to the sums are alike. Where anybody can compute the cohorts of an experiment, who
    takes part is taken as known, and every participation is accounted at its full cost. Where the
    cohorts are secret, each round is accounted as one in which the client takes part by chance
    (`sampling`), and the sum is divided by the mean size of a cohort, because its own size would
    tell of it.
    """

    noise_multiplier: float = Field(
        1.0,
        gt=0,
        le=10_000,
        description="Standard deviation of the noise on the sum of updates, in units of the most "
        "that one update adds to the sum",
    )
    clip_norm: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="The longest distance of an update from its base model that counts; a longer "
        "one is scaled down to it",
    )
    delta: float = Field(
        1e-5,
        gt=0,
        le=0.01,
        description="The probability with which the promise of epsilon may fail: less than one by "
        "the number of clients",
    )
    max_weight: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="An update weighs as much as it has examples, and at most this; without it, "
        "all weigh the same",
    )

    _sampling: Sampling | None = PrivateAttr(None)  # of secret cohorts
    _divisor: int | None = PrivateAttr(None)  # of the sum; None: the sum of the weights

    wraps_step: ClassVar[bool] = True
    keeps_ledger: ClassVar[bool] = True

    def within(self, config: Config) -> Self:
        sampling = Sampling.of(config)
        if sampling is None:
            return self
        found = self.model_copy()
        found._sampling, found._divisor = sampling, sampling.expected
        return found

    def fault(self, config: Config) -> str | None:
        if fault := super().fault(config):
            return fault
        if config.secure:
            return (
                f"secure_aggregation hides each update, so the coordinator cannot clip it, as "
                f"privacy {self.name} asks for: leave one of them out."
            )
        if config.schedule.name != SYNCHRONOUS.name:
            return self._without(f"schedule ({config.schedule.name})", "synchronous")
        if config.selection.name not in _BLIND:
            return self._without(f"selection ({config.selection.name})", f"{_BLIND[0]}")
        if config.normalisation == FEDERATED:
            return self._without("normalisation (federated)", "given")
        if config.target is not None:
            name = "target_accuracy" if config.target_metric is None else "target_value"
            return (
                f"{name} ends the experiment by metrics of the clients, which have no noise: leave "
                f"it out with privacy {self.name}."
            )
        if self.delta * config.clients >= 1:
            return (
                f"delta ({self.delta:g}) must be below 1/{config.clients}, one by the number of "
                "clients: else the data of one whole client may be published."
            )
        if config.secret_cohorts and (fault := self._secret_fault(config)):
            return fault
        return self.budget_fault(config)

    def _secret_fault(self, config: Config) -> str | None:
        if self.max_weight is not None:
            return (
                f"max_weight ({self.max_weight}) divides the sum by what the drawn clients weigh, "
                "and selection (secret) must not tell who they are: leave max_weight out."
            )
        return sampling_fault(config, self.delta)

    def budget_fault(self, config: Config) -> str | None:
        """Say why no round fits into the budget; None if one does."""
        budget, first = config.budget_epsilon, self.within(config).epsilon(1)
        if budget is None or first <= budget:
            return None
        return (
            f"The first round alone costs an epsilon of {first:.4g}, more than budget_epsilon "
            f"({budget:g}): raise noise_multiplier ({self.noise_multiplier:g}) or the budget."
        )

    def _without(self, setting: str, instead: str) -> str:
        return (
            f"{setting} tells of the clients' data without noise, or is not accounted for, so "
            f"privacy {self.name} does not go with it: take {instead}."
        )

    def strategy_fault(self, strategy: Aggregator) -> str | None:
        if strategy.averages_alone:
            return None
        return (
            f"strategy ({strategy.name}) is more than a mean of updates, whose noise privacy "
            f"{self.name} would have to know: take fedavg, fedavgm, fedadagrad, fedadam or fedyogi."
        )

    def clip_in(self, before: LedgerEntry | None) -> float:
        """Give the norm to which updates are clipped after the version with this entry."""
        return self.clip_norm

    def share(self, norm: float, bounds: Bounds, before: LedgerEntry | None = None) -> float:
        if not math.isfinite(norm):
            raise BadWeights(
                "The update's distance from the base model is not finite. Lower the learning rate "
                "or the number of local epochs.",
                code="norm-exceeded",
            )
        clip = self.clip_in(before)
        return 1.0 if norm <= clip else clip / norm

    def weight(self, weight: float) -> float:
        return 1.0 if self.max_weight is None else min(weight, self.max_weight)

    @property
    def updates_multiplier(self) -> float:
        """The noise multiplier of the sum of updates, which other releases of a round may raise."""
        return self.noise_multiplier

    def deviation(self, before: LedgerEntry | None, weights: Sequence[float]) -> float:
        most = 1.0 if self.max_weight is None else float(self.max_weight)
        total = sum(weights) if self._divisor is None else self._divisor
        return self.updates_multiplier * self.clip_in(before) * most / total

    def wrap_step(self, step: Step, elements: Piece, noise: Noise | None = None) -> Step:
        assert noise is not None  # noqa: S101  (the mechanism keeps a ledger)
        drawn, divisor = noise.of(elements), self._divisor

        def noisy(base, reduced, state, facts):  # type: ignore[no-untyped-def]
            mean = reduced["weights"]
            if divisor is not None:  # all weigh 1, and those that are missing add nothing
                mean = base + len(facts.updates) / divisor * (mean - base)
            return step(base, {**reduced, "weights": mean + drawn}, state, facts)

        return noisy

    def participations(self, rounds: Iterable[Iterable[int]]) -> int:
        """Of secret cohorts, all rounds: a client may have been in each."""
        if self._sampling is None:
            return super().participations(rounds)
        return sum(1 for _ in rounds)

    def epsilon(self, participations: int) -> float:
        if self._sampling is not None:
            rate, noise = self._sampling.rate, self.noise_multiplier
            return sampled_epsilon(rate, noise, participations, self.delta)
        return epsilon_of(math.sqrt(participations) / self.noise_multiplier, self.delta)

    def next_clip(self, before: LedgerEntry | None, taken: Taken, key: bytes) -> float:
        """Give the norm to which the updates of the next round are clipped."""
        return self.clip_norm

    def entry(
        self,
        before: LedgerEntry | None,
        taken: Taken,
        key: bytes,
        rounds: Sequence[Sequence[int]],
        secret: str,
    ) -> LedgerEntry:
        return LedgerEntry(
            clip=self.clip_in(before),
            next_clip=self.next_clip(before, taken, key),
            deviation=self.deviation(before, taken.weights),
            round_epsilon=self.epsilon(1),
            delta=self.delta,
            secret_sha256=secret,
            **self.paid(rounds),
        )

    def paid(self, rounds: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Give the fields of an entry that follow from the slots of each round's updates."""
        participations = self.participations(rounds)
        return {
            "epsilon": self.epsilon(participations),
            "participations": participations,
            "sampling_rate": None if self._sampling is None else self._sampling.rate,
        }
