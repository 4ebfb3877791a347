"""Strategies: how a round's updates become the next global model. One algorithm a file.

A strategy is given one update at a time in a fixed order, and gives the new values at the end:
values in, new state out, and memory flat in the number of clients. Each span of a model has a
strategy of its own, so what it does is done element by element. It knows of no tensors: when it is
made it is given float64 memory for as many floating-point values as there are, and the number of
others (integers, booleans), and they come in the span's order. NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from app.aggregation.fedavg import FedAvg

if TYPE_CHECKING:
    import numpy as np


class Strategy(Protocol):
    """A running aggregation of one round."""

    def add(self, update: Iterable[np.ndarray], num_examples: int) -> None:
        """Fold in one update: its values in order, in flat arrays of whatever lengths."""
        ...

    def partial(self) -> tuple[np.ndarray, np.ndarray]:
        """What was folded so far: float64 [floats] and int64 [2, integers]."""
        ...

    def merge(self, partial: Iterable[np.ndarray], num_examples: int) -> None:
        """Fold in what another one folded, of updates with so many examples in all: its sums in
        order, in arrays as those of `partial` of whatever lengths.
        """
        ...

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """The new global values: of the floats, and of the others. Raises ValueError where nothing
        was added.
        """
        ...


STRATEGIES: dict[str, Callable[[np.ndarray, int], Strategy]] = {"fedavg": FedAvg}
