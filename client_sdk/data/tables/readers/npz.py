"""Reads .npz files of NumPy as tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from client_sdk.data import npz
from client_sdk.data.tables.arrays import read_columns
from client_sdk.data.tables.column_reader import MakeReader
from client_sdk.data.tables.readers.reader import Found, TableReader
from client_sdk.data.tables.words import shown
from client_sdk.errors import DataError


class Npz(TableReader):
    """Arrays that are columns."""

    suffixes = (".npz",)

    def read(self, path: Path, make: MakeReader, decimal: str | None) -> Found:
        """Read the arrays [N] of an .npz file as columns, and an array x [N, D] as D of them.

        The columns of x are called as an array `columns` says, or x0, x1 and so on. Raises
        DataError.
        """
        arrays = npz.load(path)
        names = arrays.pop("columns", None)
        columns: dict[str, np.ndarray] = {}
        for key, array in arrays.items():
            if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
                columns[key] = array.reshape(-1)
            elif array.ndim == 2 and key.lower() == "x":
                width = array.shape[1]
                called = (
                    [f"x{n}" for n in range(width)] if names is None else [str(n) for n in names]
                )
                if len(called) != width or len(set(called)) != width:
                    raise DataError(f"{path}: `columns` does not name the {width} columns of x.")
                columns |= {name: array[:, n] for n, name in enumerate(called)}
            else:
                raise DataError(
                    f"{path}: the array {shown(key)} of the shape {list(array.shape)} is no "
                    "column: a table has arrays [N], and one x [N, D]."
                )
        return read_columns(str(path), columns, make), []
