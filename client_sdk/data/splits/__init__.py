"""Splits: which examples each simulated client has. One law a file.

`split` has the contract, `SPLITS` all splits: a new one is a file here and a line there.
"""

from __future__ import annotations

from client_sdk.data.splits.by_column import ByColumn
from client_sdk.data.splits.dirichlet_classes import DirichletClasses
from client_sdk.data.splits.dirichlet_clients import DirichletClients
from client_sdk.data.splits.equal import Equal
from client_sdk.data.splits.label_shards import LabelShards
from client_sdk.data.splits.own_function import OwnFunction
from client_sdk.data.splits.quantity import Quantity
from client_sdk.data.splits.split import Split

SPLITS: tuple[type[Split], ...] = (
    Equal,
    DirichletClasses,
    DirichletClients,
    LabelShards,
    Quantity,
    ByColumn,
    OwnFunction,
)
