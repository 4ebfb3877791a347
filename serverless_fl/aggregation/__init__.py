"""Strategies: how a round's updates become the next global model. One algorithm a file.

`strategy` has the contract, `STRATEGIES` the modules: a new one is a file here and a line there.
"""

from __future__ import annotations

from serverless_fl.aggregation.strategy import Strategy
from serverless_fl.alternatives import stored
from serverless_fl.domain.experiment import Config
from serverless_fl.registry import registered

STRATEGIES = registered(
    Strategy,
    __name__,
    "fedavg",
    "fedavgm",
    "fedadagrad",
    "fedadam",
    "fedyogi",
    "fednova",
    "scaffold",
    "feddyn",
    "qfedavg",
    "median",
    "trimmed_mean",
    "krum",
    "multi_krum",
    "bulyan",
    "geometric_median",
)


def strategy_of(config: Config) -> Strategy:
    """Give the strategy of an experiment, with its settings.

    Raises InvalidConfig if there is no such strategy, or if it refuses a setting: another release
    may have stored the experiment.
    """
    return stored(config.strategy, STRATEGIES, "strategy")
