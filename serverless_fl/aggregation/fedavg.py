"""FedAvg: the mean of the clients' weights."""

from __future__ import annotations

from typing import Literal

from serverless_fl.aggregation.strategy import Strategy


class FedAvg(Strategy):
    """The mean of the clients' weights, weighted by their numbers of examples.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017, arXiv:1602.05629, algorithm 1: w <- sum_k (n_k / n) w_k.

    Choose it when the clients' data are much alike. Try it first in any case: papers compare every
    other strategy with it.

    >>> from serverless_fl.aggregation.in_memory import aggregate
    >>> from serverless_fl.aggregation.strategy import UpdateFacts
    >>> facts = [UpdateFacts(client=0, num_examples=30), UpdateFacts(client=1, num_examples=10)]
    >>> aggregate(FedAvg(), [0.0], [[1.0], [5.0]], facts)[0]
    array([2.])
    """

    name: Literal["fedavg"] = "fedavg"
