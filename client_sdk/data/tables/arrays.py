"""Reads columns that are arrays: of an .npz file, a Parquet file, a DataFrame of pandas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from client_sdk import hints
from client_sdk.data import npz
from client_sdk.data.tables.column_reader import ColumnReader
from client_sdk.data.tables.delimited import MAX_COLUMNS, MakeReader
from client_sdk.data.tables.words import plain, shown
from client_sdk.errors import DataError

_PIECE = 100_000  # values


def read_npz(path: Path, make: MakeReader) -> list[ColumnReader]:
    """Read the arrays [N] of an .npz file as columns, and an array x [N, D] as D of them.

    The columns of x are called as an array `columns` says, or x0, x1 and so on. Raises DataError.
    """
    arrays = npz.load(path)
    names = arrays.pop("columns", None)
    columns: dict[str, np.ndarray] = {}
    for key, array in arrays.items():
        if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
            columns[key] = array.reshape(-1)
        elif array.ndim == 2 and key.lower() == "x":
            width = array.shape[1]
            called = [f"x{n}" for n in range(width)] if names is None else [str(n) for n in names]
            if len(called) != width or len(set(called)) != width:
                raise DataError(f"{path}: `columns` does not name the {width} columns of x.")
            columns |= {name: array[:, n] for n, name in enumerate(called)}
        else:
            raise DataError(
                f"{path}: the array {shown(key)} of the shape {list(array.shape)} is no column: a "
                "table has arrays [N], and one x [N, D]."
            )
    return _read_all(str(path), columns, make)


def read_parquet(path: Path, make: MakeReader) -> list[ColumnReader]:
    """Read a Parquet file with pyarrow, which is an extra package. Raises DataError."""
    try:
        import pyarrow  # not everybody's
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        how = hints.install("serverless-fl[parquet]")
        raise DataError(f"{path}: Parquet files need the package pyarrow: {how}.") from error
    try:
        table = pyarrow.parquet.read_table(path)
        columns = {name: _of_arrow(table.column(n)) for n, name in enumerate(table.column_names)}
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} cannot be read as a Parquet file: {error}") from error
    return _read_all(str(path), columns, make)


def read_frame(frame: Any, make: MakeReader) -> list[ColumnReader]:
    """Read a DataFrame of pandas: whatever has `columns`, and a column's `to_numpy()`.

    Raises DataError.
    """
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        raise DataError("Two columns of the DataFrame have the same name.")
    columns = {
        name: np.asarray(frame[key].to_numpy())
        for name, key in zip(names, frame.columns, strict=True)
    }
    return _read_all("the DataFrame", columns, make)


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


def _read_all(
    whose: str, columns: Mapping[str, np.ndarray], make: MakeReader
) -> list[ColumnReader]:
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        (a, n), (b, m) = next((x, y) for x in sizes.items() for y in sizes.items() if x[1] != y[1])
        raise DataError(
            f"{whose}: columns are of one length, but {shown(a)} has {n} values and {shown(b)} {m}."
        )
    if not columns or not next(iter(sizes.values())):
        raise DataError(f"{whose} has no rows.")
    if len(columns) > MAX_COLUMNS:
        raise DataError(f"{whose} has {len(columns)} columns; {MAX_COLUMNS} are the most.")
    readers = []
    for key, values in columns.items():
        name = plain(key)
        if (reader := make(name, ".", False)) is None:
            continue
        _feed(whose, reader, values)
        if reader.words_after_numbers:
            again = make(name, ".", True)
            assert again is not None  # noqa: S101
            _feed(whose, again, values)
            reader = again
        readers.append(reader)
    return readers


def _feed(whose: str, reader: ColumnReader, values: np.ndarray) -> None:
    """Give a column's values to its reader. Raises DataError."""
    if values.dtype.kind in "biuf":
        reader.add_values(values, _row_after(whose, 0))
        return
    if values.dtype.kind == "M":
        values = np.datetime_as_string(values, unit="s")
    if values.dtype.kind not in "OUS":
        raise DataError(
            f"{whose}, column {shown(reader.name)}: values of the type {values.dtype} are neither "
            "numbers nor words."
        )
    for start in range(0, len(values), _PIECE):
        words = [_word(value) for value in values[start : start + _PIECE].tolist()]
        reader.add(words, _row_after(whose, start))


def _row_after(whose: str, start: int) -> Callable[[int], str]:
    return lambda place: f"{whose}, row {start + place + 1}"


def _word(value: object) -> str:
    """A value as a cell of a file has it."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
