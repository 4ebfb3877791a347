"""Reads Parquet files as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from client_sdk import hints
from client_sdk.data.tables.arrays import read_columns
from client_sdk.data.tables.column_reader import MakeReader
from client_sdk.data.tables.readers.reader import Found, TableReader
from client_sdk.errors import DataError


class Parquet(TableReader):
    """Columns of Apache Parquet (https://parquet.apache.org)."""

    suffixes = (".parquet",)

    def read(self, path: Path, make: MakeReader, decimal: str | None) -> Found:
        """Read a Parquet file with pyarrow, which is an extra package. Raises DataError."""
        try:
            import pyarrow  # not everybody's
            import pyarrow.parquet
        except ModuleNotFoundError as error:
            how = hints.install("serverless-fl[parquet]")
            raise DataError(f"{path}: Parquet files need the package pyarrow: {how}.") from error
        try:
            table = pyarrow.parquet.read_table(path)
            columns = {
                name: _of_arrow(table.column(n)) for n, name in enumerate(table.column_names)
            }
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{path} cannot be read as a Parquet file: {error}") from error
        return read_columns(str(path), columns, make), []


def _of_arrow(column: Any) -> np.ndarray:
    """A pyarrow column as an array: float64 with NaN, bool, or objects with None."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pyarrow.types.is_decimal(kind):
        column = column.cast(pyarrow.float64())
    return np.asarray(column.to_numpy())
