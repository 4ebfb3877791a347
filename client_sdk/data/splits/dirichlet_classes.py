"""The split `dirichlet-classes`: the examples of each class, in Dirichlet shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from client_sdk.data.splits.split import Examples, Split
from client_sdk.data.splits.stream import Stream, cut


class DirichletClasses(Split):
    """Each class is shared among the clients by a Dirichlet draw: classes and sizes differ.

    Yurochkin et al., arXiv:1905.12022; NIID-Bench (Li et al., arXiv:2102.02079), flwr-datasets and
    PFLlib mean this split. Choose it to compare with them. They draw again until each client has a
    number of examples, which changes the law; here a client may have none.
    """

    name: Literal["dirichlet-classes"] = "dirichlet-classes"
    alpha: float = Field(
        0.5,
        ge=0.001,
        le=1e6,
        description="Concentration of the Dirichlet draw; the smaller, the less alike the clients",
    )

    def draw(self, examples: Examples, clients: int, seed: int) -> Sequence[np.ndarray]:
        """For each class, shares of all clients ~ Dir(alpha, ..., alpha)."""
        found: list[list[np.ndarray]] = [[] for _ in range(clients)]
        stream = Stream(seed, f"split {self.name}")
        for members in examples.by_class(self.name):
            shares = stream.dirichlet([self.alpha] * clients)
            mixed = members[stream.permutation(len(members))]
            for client, piece in zip(found, cut(mixed, shares), strict=True):
                client.append(piece)
        return [np.concatenate(pieces) for pieces in found]
