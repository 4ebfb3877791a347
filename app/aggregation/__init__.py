"""Strategies: how a round's updates become the next global model. One algorithm a file.

A strategy is given one update at a time in a fixed order, and gives the new values at the end:
values in, new state out, and memory flat in the number of clients. Each span of a model has a
strategy of its own, so what it does is done element by element. NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from app.aggregation.fedavg import FedAvg

if TYPE_CHECKING:
    import numpy as np


class Strategy(Protocol):
    """A running aggregation of one round."""

    def add(self, update: Iterable[tuple[str, np.ndarray]], num_examples: int) -> None:
        """Fold in one update: each tensor's name and its values, flat."""
        ...

    def partial(self) -> dict[str, np.ndarray]:
        """What was folded so far, as float64 or int64 arrays, flat."""
        ...

    def merge(self, partial: Iterable[tuple[str, np.ndarray]], num_examples: int) -> None:
        """Fold in what another one folded, of updates with so many examples in all."""
        ...

    def result(self) -> dict[str, np.ndarray]:
        """The new global values by tensor name. Raises ValueError where nothing was added."""
        ...


STRATEGIES: dict[str, Callable[[], Strategy]] = {"fedavg": FedAvg}
