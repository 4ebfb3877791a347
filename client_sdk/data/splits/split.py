"""The contract of a split: which examples of a data set each simulated client has.

A split is one file: a pydantic model whose fields are its settings, and whose `draw` is its law. It
is a function of the examples, the number of clients and the seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from client_sdk.errors import DataError


@dataclass(frozen=True)
class Examples:
    """What a split may look at: the number of examples, their labels, and columns by name.

    `labels` are int64 [N], places in the classes; None where the examples have no classes. A column
    is [N] words, for example the site of each example.
    """

    count: int
    labels: np.ndarray | None = None
    columns: dict[str, np.ndarray] | None = None

    def by_class(self, who: str) -> list[np.ndarray]:
        """The examples of each class that has some, ascending. Raises DataError without classes."""
        if self.labels is None:
            raise DataError(f"The split {who} is by classes, and the data have none.")
        return [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]


class Split(BaseModel):
    """A split with its settings. A subclass adds a field `name: Literal["its-name"]`.

    Its docstring cites the paper and says when to choose it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    sets_clients: ClassVar[bool] = False  # whether the data say how many clients there are

    name: str

    def clients(self, examples: Examples, wanted: int) -> int:
        """How many clients there are, where somebody wants that many. Raises DataError."""
        return wanted

    def draw(self, examples: Examples, clients: int, seed: int) -> Sequence[np.ndarray]:
        """Draw the examples of each client: places, in any order, none of them twice.

        A client may have none, and an example may have no client. Raises DataError where the
        examples do not suit.
        """
        raise NotImplementedError
