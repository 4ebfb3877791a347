"""The split `quantity`: numbers of examples that differ, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from client_sdk.data.splits.split import Examples, Split
from client_sdk.data.splits.stream import Stream, cut, shares


class Quantity(Split):
    """Sizes are log-normal and examples are drawn at random: only the sizes differ.

    As the sizes of hospitals or of users' data often do; NIID-Bench (Li et al., arXiv:2102.02079)
    calls it quantity skew. Choose it to see what large clients do to small ones.
    """

    name: Literal["quantity"] = "quantity"
    sigma: float = Field(
        1.0,
        ge=0,
        le=10,
        description="Deviation of the logarithm of a client's size; 0: equal sizes",
    )

    def draw(self, examples: Examples, clients: int, seed: int) -> Sequence[np.ndarray]:
        """Sizes in proportion to exp(sigma z), z ~ N(0, 1)."""
        stream = Stream(seed, f"split {self.name}")
        sizes = shares([self.sigma * stream.normal() for _ in range(clients)])
        return cut(stream.permutation(examples.count), sizes)
