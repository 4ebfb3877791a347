"""Reads columns that are arrays, whatever they come from: a file, a DataFrame of pandas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from client_sdk.data.tables.column_reader import MAX_COLUMNS, ColumnReader, MakeReader
from client_sdk.data.tables.words import plain, shown
from client_sdk.errors import DataError

_PIECE = 100_000  # values


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
    return read_columns("the DataFrame", columns, make)


def read_columns(
    whose: str, columns: Mapping[str, np.ndarray], make: MakeReader
) -> list[ColumnReader]:
    """Read arrays [N] of numbers or words, by the name of their column. Raises DataError."""
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
