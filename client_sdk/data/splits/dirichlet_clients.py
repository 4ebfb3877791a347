"""The split `dirichlet-clients`: a Dirichlet mix of classes for each client."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import numpy as np
from pydantic import Field

from client_sdk.data.splits.split import Examples, Split
from client_sdk.data.splits.stream import Stream
from client_sdk.errors import DataError
from serverless_fl.domain.draws import shard_bounds


class DirichletClients(Split):
    """Each client has its own shares of the classes by a Dirichlet draw: sizes are equal.

    Hsu, Qi and Brown, arXiv:1909.06335; Reddi et al., arXiv:2003.00295. Choose it where only the
    classes should differ. Its alpha is not that of dirichlet-classes: the draw of a client is
    Dir(alpha p), p being the shares of the classes in all data, so its concentration is alpha in
    sum, and not for each class.
    """

    name: Literal["dirichlet-clients"] = "dirichlet-clients"
    alpha: float = Field(
        0.5,
        ge=0.001,
        le=1e6,
        description="Concentration of the Dirichlet draw; the smaller, the less alike the clients",
    )

    def draw(self, examples: Examples, clients: int, seed: int) -> Sequence[np.ndarray]:
        """Clients take examples in turns, each of a class by its own shares.

        A class of which no example is left is left out of all shares: the last examples of every
        client, not all examples of the last clients, have other classes than their shares say.
        """
        if clients > examples.count:
            raise DataError(f"{examples.count} examples are too few for {clients} clients.")
        classes = examples.by_class(self.name)
        stream = Stream(seed, f"split {self.name}")
        left = [members[stream.permutation(len(members))].tolist() for members in classes]
        prior = [self.alpha * len(members) / examples.count for members in classes]
        wanted = [stream.dirichlet(prior) for _ in range(clients)]
        totals = [list(accumulate(shares)) for shares in wanted]
        bounds = [shard_bounds(examples.count, clients, slot) for slot in range(clients)]
        sizes = [last - first for first, last in bounds]
        found: list[list[int]] = [[] for _ in range(clients)]
        for turn in range(max(sizes)):
            for client in range(clients):
                if turn == sizes[client]:
                    continue
                one = _choose(totals[client], stream.uniform())
                found[client].append(left[one].pop())
                if not left[one]:
                    for n, shares in enumerate(wanted):
                        shares[one] = 0.0
                        totals[n] = _totals(shares, left)
        return [np.array(places, np.int64) for places in found]


def _choose(totals: list[float], at: float) -> int:
    """The class in whose interval this part of the whole lies; an empty interval holds none."""
    place = bisect_right(totals, at * totals[-1])
    # Rounding may give the whole, which is the end of the last interval.
    return place if place < len(totals) else bisect_left(totals, totals[-1])


def _totals(shares: list[float], left: list[list[int]]) -> list[float]:
    """Sums of the shares up to each class; of what is left where a client wants none of that."""
    if sum(shares) > 0:
        return list(accumulate(shares))
    return list(accumulate(float(len(members)) for members in left))
