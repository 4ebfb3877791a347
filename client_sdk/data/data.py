"""A party's data: anything with a length of which a part can be taken by positions.

A task says what it takes. `as_data` makes a data set of what people have: arrays, tensors, a torch
Dataset or DataLoader, a list. This module does not import PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from client_sdk.errors import DataError


@runtime_checkable
class Data(Protocol):
    """A data set: `subset` gives the examples at some positions, in the order of the positions."""

    def __len__(self) -> int: ...
    def subset(self, indices: Sequence[int]) -> Self: ...


class Arrays:
    """Arrays or tensors of the same length, one row an example: usually x and y.

    Raises DataError for arrays of different lengths.
    """

    def __init__(self, *columns: Any) -> None:
        self.columns = tuple(_column(column) for column in columns)
        lengths = {len(column) for column in self.columns}
        if len(lengths) != 1:
            found = " and ".join(map(str, sorted(lengths))) or "no"
            raise DataError(f"Arrays of a data set need the same length, not {found} examples.")

    @property
    def x(self) -> Any:
        """The inputs, [N, ...]."""
        return self.columns[0]

    @property
    def y(self) -> Any:
        """The targets, [N, ...]. Raises DataError where there are none."""
        if len(self.columns) < 2:
            raise DataError("The data set has inputs, but no targets: give (x, y).")
        return self.columns[1]

    def __len__(self) -> int:
        return len(self.columns[0])

    def subset(self, indices: Sequence[int]) -> Self:
        """The rows at these positions."""
        rows = list(indices)
        return type(self)(*(column[rows] for column in self.columns))


class Items:
    """Examples that are read one at a time: a list, or a torch Dataset of the map style.

    `collate` makes a batch of a list of examples, as a DataLoader's `collate_fn` does.
    """

    def __init__(
        self,
        source: Any,
        indices: Sequence[int] | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        self.source, self.collate = source, collate
        self._indices = range(len(source)) if indices is None else indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        return self.source[self._indices[index]]

    def subset(self, indices: Sequence[int]) -> Self:
        """The examples at these positions; nothing is copied."""
        return type(self)(self.source, [self._indices[i] for i in indices], self.collate)


def as_data(source: Any) -> Data:
    """Make a data set of what somebody has. Raises DataError where that has no length.

    A tuple of arrays, tensors or data frames becomes `Arrays`, and so does a torch TensorDataset.
    Lists and torch Datasets become `Items`. Of a DataLoader, the data set and `collate_fn` count:
    the task shuffles and cuts batches itself, as a function of the seed.
    """
    if isinstance(source, Data):
        return source
    if isinstance(source, tuple) and source and all(map(_is_column, source)):
        return Arrays(*source)
    if isinstance(tensors := getattr(source, "tensors", None), tuple):
        return Arrays(*tensors)
    if hasattr(source, "dataset") and hasattr(source, "batch_sampler"):  # a DataLoader
        inner = as_data(source.dataset)
        own = getattr(source, "collate_fn", None)
        return Items(source.dataset, collate=own) if isinstance(inner, Items) else inner
    if isinstance(source, str | bytes | Mapping) or not _has_items(source):
        raise DataError(
            f"A {type(source).__name__} is no data set: give (x, y) arrays or tensors, a list, or "
            "a Dataset with a length."
        )
    return Items(source)


def _has_items(source: Any) -> bool:
    try:
        return len(source) >= 0 and hasattr(source, "__getitem__")
    except TypeError:
        return False


def _is_column(column: Any) -> bool:
    return hasattr(column, "shape") or isinstance(column, list)


def _column(column: Any) -> Any:
    """Something that a list of positions indexes by rows. A data frame's brackets name columns."""
    if hasattr(column, "iloc"):
        return column.to_numpy()
    return column if hasattr(column, "shape") else np.asarray(column)
