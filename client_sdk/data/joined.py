"""Several data sets as one, such as those of the sites of a simulation."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from client_sdk.data.data import Arrays, Data, Items
from client_sdk.errors import DataError


def join(parts: Sequence[Data]) -> Data:
    """The examples of all parts, one part after another. Raises DataError.

    Parts are all `Arrays`, or all `Items`; other kinds of data are joined only with themselves
    alone.
    """
    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if isinstance(part, Arrays)]
    if parts and len(arrays) == len(parts):
        return _join_arrays(arrays)
    items = [part for part in parts if isinstance(part, Items)]
    if parts and len(items) == len(parts):
        return Items(_Chain([*items]), collate=items[0].collate)
    kinds = sorted({type(part).__name__ for part in parts})
    raise DataError(f"Data sets of the kinds {', '.join(kinds)} cannot be joined: give (x, y).")


def _join_arrays(parts: Sequence[Arrays]) -> Arrays:
    columns = []
    for pieces in zip(*(part.columns for part in parts), strict=False):
        shapes = {tuple(piece.shape[1:]) for piece in pieces}
        if len(shapes) > 1:
            raise DataError(
                "Examples of all sites need the same shape, not "
                f"{' and '.join(str(list(shape)) for shape in sorted(shapes))}."
            )
        columns.append(_concatenate(pieces))
    if len({len(part.columns) for part in parts}) > 1:
        raise DataError("Some sites have targets and others do not: give (x, y) for each.")
    return Arrays(*columns)


def _concatenate(pieces: Sequence[Any]) -> Any:
    """Tensors stay tensors, and arrays arrays."""
    if all(isinstance(piece, np.ndarray) for piece in pieces):
        return np.concatenate(pieces)
    import torch  # where there is a tensor, it is loaded already

    return torch.cat([torch.as_tensor(piece) for piece in pieces])


class _Chain:
    """The items of several data sets, read when somebody asks for them."""

    def __init__(self, parts: Sequence[Items]) -> None:
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect_right(self._ends, index)
        return self._parts[part][index - (self._ends[part - 1] if part else 0)]
