"""Splits: which examples each simulated client has. One law a file.

`split` has the contract, `SPLITS` the modules: a new one is a file here and a line there.
"""

from __future__ import annotations

from client_sdk.data.splits.split import Split
from serverless_fl.registry import registered

SPLITS = registered(
    Split,
    __name__,
    "equal",
    "dirichlet_classes",
    "dirichlet_clients",
    "label_shards",
    "quantity",
    "by_column",
    "own_function",
)
