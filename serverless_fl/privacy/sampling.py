"""Secret cohorts, and what rounds with Gaussian noise cost under them.

Each client takes part in a round with the same probability, whoever else does (Poisson sampling),
and nobody sees who does. So a round's models hide whether a client was there at all, and cost it
less: amplification by sampling. The bound is that of Mironov, Talwar and Zhang, "Rényi Differential
Privacy of the Sampled Gaussian Mechanism", 2019, arXiv:1908.10530, equation 10, of whole orders. It
is turned into epsilon by proposition 12 of Canonne, Kamath and Steinke, "The Discrete Gaussian for
Differential Privacy", 2020, arXiv:2004.00010. Tests hold it against the library dp-accounting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from serverless_fl.domain.experiment import Config
from serverless_fl.privacy.accounting import epsilon_of

ORDERS = (*range(2, 65), *range(68, 129, 4), *range(144, 513, 16))
# A round to which nobody reports ends the experiment, and so tells that a client was not there. Its
# probability, with all other clients at work, must be this small a part of delta.
EMPTY = 1e-6


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The sampling of an experiment's cohorts: the chance of a client, and their mean size."""

    rate: float
    expected: int

    @classmethod
    def of(cls, config: Config) -> Sampling | None:
        """Give the sampling of an experiment; None if anybody may know its cohorts."""
        if not config.secret_cohorts:
            return None
        rate = config.clients_per_round / config.clients
        return cls(rate=rate, expected=config.clients_per_round)


def sampling_fault(config: Config, delta: float) -> str | None:
    """Say which setting would tell who takes part in a round of secret cohorts; None if none."""
    said = "selection (secret) does not go with it"
    if config.max_attempts != 1:
        return (
            f"max_attempts ({config.max_attempts}) repeats rounds that lack updates, which tells "
            f"how many clients were drawn, so {said}: set max_attempts to 1."
        )
    if config.updates_to_close != 1:
        return (
            f"quorum ({config.updates_to_close}) ends an experiment for want of updates, which "
            f"tells how many clients were drawn, so {said}: set quorum to 1."
        )
    if extra := config.schedule.settings.get("over_selection"):
        return (
            f"over_selection ({extra}) drops the updates of slow clients, but of secret cohorts "
            f"all updates count, so {said}: leave it out."
        )
    if config.download_encoding != Config.download_encoding:
        return (
            f"download_encoding ({config.download_encoding}) rounds the base model, and the mean "
            f"would tell how many clients were drawn, so {said}: leave it out."
        )
    if config.budget_usd is not None:
        return (
            f"budget_usd ({config.budget_usd:g}) pauses by a cost that tells how many clients were "
            f"drawn, so {said}: leave it out."
        )
    rate = config.clients_per_round / config.clients
    if (1 - rate) ** (config.clients - 1) > EMPTY * delta:
        return (
            f"clients_per_round ({config.clients_per_round} of {config.clients} clients) is so "
            "small a mean that a round could be without any client, which ends the experiment and "
            "would tell that nobody was drawn: raise clients_per_round, or take selection uniform."
        )
    return None


@lru_cache(1024)
def sampled_epsilon(rate: float, multiplier: float, rounds: int, delta: float) -> float:
    """Give an upper bound of the epsilon of rounds in each of which a client takes part by chance.

    `rate` is that chance, `multiplier` the deviation of the noise in units of the most that the
    client adds. It is never above the exact epsilon of so many rounds in which it takes part.
    """
    return composed_epsilon([(rate, multiplier, rounds)], delta)


def composed_epsilon(parts: Sequence[tuple[float, float, int]], delta: float) -> float:
    """Give an upper bound of the epsilon of several such sequences of rounds together.

    Each has the chance, the multiplier and the number of its rounds.
    """
    parts = [part for part in parts if part[2]]
    exact = epsilon_of(math.sqrt(sum(n / noise**2 for _, noise, n in parts)), delta)
    if all(rate == 1 for rate, _, _ in parts):
        return exact
    divergences = (sum(n * _renyi(order, *rest) for *rest, n in parts) for order in ORDERS)
    return min(exact, *(_converted(*pair, delta) for pair in zip(ORDERS, divergences, strict=True)))


def _converted(order: int, renyi: float, delta: float) -> float:
    log = math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
    return max(0.0, renyi + log)


@lru_cache(4096)
def _renyi(order: int, rate: float, multiplier: float) -> float:
    """Give the Rényi divergence of a whole order, of one round."""
    if rate == 1:
        return order / (2 * multiplier * multiplier)
    logs = [
        math.lgamma(order + 1)
        - math.lgamma(k + 1)
        - math.lgamma(order - k + 1)
        + (order - k) * math.log1p(-rate)
        + k * math.log(rate)
        + (k * k - k) / (2 * multiplier * multiplier)
        for k in range(order + 1)
    ]
    top = max(logs)
    return (top + math.log(math.fsum(math.exp(log - top) for log in logs))) / (order - 1)
