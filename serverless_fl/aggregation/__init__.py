"""Strategies: how a round's updates become the next global model. One algorithm a file.

A strategy works on flat arrays of float64; its caller maps them to tensors. It takes one update at
a time in a fixed order and returns the new values at the end, so its memory does not grow with the
number of clients. Each span of a model has a strategy of its own, so a strategy treats every
element alike. NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from serverless_fl.aggregation.fedavg import FedAvg

if TYPE_CHECKING:
    import numpy as np


class Strategy(Protocol):
    """The running aggregation of one round's updates, over some elements of the model."""

    def add(self, update: Iterable[np.ndarray], num_examples: int) -> None:
        """Add one update: its values in order, in flat arrays of any lengths."""
        ...

    def partial(self) -> np.ndarray:
        """The sums of all updates so far, float64 [elements]."""
        ...

    def merge(self, partial: Iterable[np.ndarray], num_examples: int) -> None:
        """Add another strategy's `partial`, in flat arrays of any lengths, and its examples."""
        ...

    def result(self) -> np.ndarray:
        """The new global values, float64 [elements]. Raises ValueError if nothing was added."""
        ...


STRATEGIES: dict[str, Callable[[int], Strategy]] = {"fedavg": FedAvg}
