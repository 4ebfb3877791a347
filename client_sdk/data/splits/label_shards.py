"""The split `label-shards`: a few shards of the examples in the order of their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from client_sdk.data.splits.split import Examples, Split
from client_sdk.data.splits.stream import Stream
from client_sdk.errors import DataError
from serverless_fl.domain.draws import shard_bounds


class LabelShards(Split):
    """Examples sorted by class are cut into shards of equal size, and each client has a few.

    McMahan et al., arXiv:1602.05629, section 3: two shards a client, the "pathological" split. Most
    clients have at most two classes. Choose it to compare with them.
    """

    name: Literal["label-shards"] = "label-shards"
    shards_per_client: int = Field(
        2,
        ge=1,
        le=1000,
        description="Shards of each client",
    )

    def draw(self, examples: Examples, clients: int, seed: int) -> Sequence[np.ndarray]:
        """Shards of sizes that differ by one example at most, dealt out at random."""
        count = clients * self.shards_per_client
        if count > examples.count:
            raise DataError(f"{examples.count} examples are too few for {count} shards.")
        stream = Stream(seed, f"split {self.name}")
        classes = examples.by_class(self.name)
        order = np.concatenate([one[stream.permutation(len(one))] for one in classes])
        bounds = [shard_bounds(examples.count, count, place) for place in range(count)]
        shards = [order[first:last] for first, last in bounds]
        dealt = stream.permutation(count).reshape(clients, self.shards_per_client)
        return [np.concatenate([shards[place] for place in mine]) for mine in dealt]
