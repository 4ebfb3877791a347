"""Strategies: how a round's updates become the next global model. One algorithm a file.

A strategy is given the layout of the model once, then one update at a time in a fixed order, and
gives the new values at the end: values in, new state out, and memory flat in the number of clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from app.aggregation.fedavg import FedAvg
from app.wire.codec import Layout

if TYPE_CHECKING:
    import numpy as np


class Strategy(Protocol):
    """A running aggregation of one round."""

    def add(self, update: bytes | bytearray, num_examples: int) -> None:
        """Fold in one update (a whole safetensors file with the model's tensors)."""
        ...

    def result(self) -> dict[str, np.ndarray]:
        """The new global values by tensor name. Raises ValueError where nothing was added."""
        ...


STRATEGIES: dict[str, Callable[[Layout], Strategy]] = {"fedavg": FedAvg}
