"""Strategies: how a round's updates become the next global model. One algorithm a file.

`strategy` has the contract, `STRATEGIES` all strategies: a new one is a file here and a line there.
"""

from __future__ import annotations

from serverless_fl.aggregation.bulyan import Bulyan
from serverless_fl.aggregation.fedadagrad import FedAdagrad
from serverless_fl.aggregation.fedadam import FedAdam
from serverless_fl.aggregation.fedavg import FedAvg
from serverless_fl.aggregation.fedavgm import FedAvgM
from serverless_fl.aggregation.feddyn import FedDyn
from serverless_fl.aggregation.fednova import FedNova
from serverless_fl.aggregation.fedyogi import FedYogi
from serverless_fl.aggregation.geometric_median import GeometricMedian
from serverless_fl.aggregation.krum import Krum
from serverless_fl.aggregation.median import Median
from serverless_fl.aggregation.multi_krum import MultiKrum
from serverless_fl.aggregation.qfedavg import QFedAvg
from serverless_fl.aggregation.scaffold import Scaffold
from serverless_fl.aggregation.strategy import Strategy
from serverless_fl.aggregation.trimmed_mean import TrimmedMean
from serverless_fl.alternatives import stored
from serverless_fl.domain.experiment import Config

STRATEGIES: tuple[type[Strategy], ...] = (
    FedAvg,
    FedAvgM,
    FedAdagrad,
    FedAdam,
    FedYogi,
    FedNova,
    Scaffold,
    FedDyn,
    QFedAvg,
    Median,
    TrimmedMean,
    Krum,
    MultiKrum,
    Bulyan,
    GeometricMedian,
)


def strategy_of(config: Config) -> Strategy:
    """Give the strategy of an experiment, with its settings.

    Raises InvalidConfig if there is no such strategy, or if it refuses a setting: another release
    may have stored the experiment.
    """
    return stored(config.strategy, STRATEGIES, "strategy")
