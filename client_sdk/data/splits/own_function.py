"""The split `own-function`: a function of the user's own draws it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from client_sdk.data.splits.split import Examples, Split
from client_sdk.errors import DataError


class OwnFunction(Split):
    """A function of your own: it takes the examples, the number of clients and the seed.

    It gives the places of each client's examples: `(examples, clients, seed) -> list of arrays`.
    """

    name: Literal["own-function"] = "own-function"
    split_function: str = Field(
        "",
        max_length=200,
        description="Where the function is: package.module:name",
    )

    def draw(self, examples: Examples, clients: int, seed: int) -> Sequence[np.ndarray]:
        """What the function gives. Raises DataError where it fails."""
        function = self._found()
        try:
            return [np.asarray(places, np.int64) for places in function(examples, clients, seed)]
        except Exception as error:  # a user's own code raises anything
            raise DataError(
                f"The split {self.split_function} raised {type(error).__name__}: {error}"
            ) from error

    def _found(self) -> Callable[[Examples, int, int], Sequence[Sequence[int]]]:
        module, _, name = self.split_function.partition(":")
        if not module or not name:
            raise DataError("A split of your own is package.module:name.")
        try:
            found: Callable[[Examples, int, int], Sequence[Sequence[int]]] = getattr(
                importlib.import_module(module), name
            )
        except (ImportError, AttributeError) as error:
            raise DataError(
                f"The split {self.split_function} cannot be imported: {error}"
            ) from error
        return found
