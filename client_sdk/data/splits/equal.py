"""The split `equal`: the same number of examples, drawn at random, for each client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from client_sdk.data.splits.split import Examples, Split
from client_sdk.errors import DataError
from serverless_fl.domain import draws


class Equal(Split):
    """Equal shares at random, as the coordinator draws them: every client has the same law.

    McMahan et al., arXiv:1602.05629, call it IID. Choose it where the clients should be alike.
    """

    name: Literal["equal"] = "equal"

    def draw(self, examples: Examples, clients: int, seed: int) -> Sequence[np.ndarray]:
        """The shards of the slots; it takes ten microseconds an example."""
        if clients > examples.count:
            raise DataError(f"{examples.count} examples are too few for {clients} clients.")
        permute = draws.permutation(seed, examples.count)
        order = np.fromiter(map(permute, range(examples.count)), np.int64, examples.count)
        bounds = [draws.shard_bounds(examples.count, clients, slot) for slot in range(clients)]
        return [order[first:last] for first, last in bounds]
