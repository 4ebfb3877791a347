"""The contract of a split: which examples of a data set each simulated client has.

A split is one file: a pydantic model whose fields are its settings, and whose `draw` is its law. It
is a function of the examples, the number of clients and the seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from client_sdk.errors import DataError
from serverless_fl.alternatives import Alternative


@dataclass(frozen=True)
class Examples:
    """What a split may look at: the number of examples, their labels, and columns by name.

    `labels` are int64 [N], places in the classes; None where the examples have no classes. A column
    is [N] words, for example the site of each example. `of_sites`: the data came as those of sites,
    which the column `site` names, so there is nothing to split.
    """

    count: int
    labels: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    of_sites: bool = False

    def by_class(self, split: str) -> list[np.ndarray]:
        """The examples of each class that has some, ascending. Raises DataError without classes."""
        if self.labels is None:
            raise DataError(f"The split {split} is by classes, and the data have none.")
        return [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]


class Split(Alternative):
    """A split with its settings. A subclass adds a field `name: Literal["its-name"]`.

    Its docstring cites the paper and says when to choose it.
    """

    def clients_in(self, examples: Examples) -> int | None:
        """How many clients there are, where the data say it. Raises DataError."""
        return None

    def names(self, examples: Examples) -> Sequence[str]:
        """The clients' names, where the data have names for them."""
        return ()

    def draw(self, examples: Examples, clients: int, seed: int) -> Sequence[np.ndarray]:
        """Draw the examples of each client: places, in any order, none of them twice.

        A client may have none, and an example may have no client. Raises DataError where the
        examples do not suit.
        """
        raise NotImplementedError
