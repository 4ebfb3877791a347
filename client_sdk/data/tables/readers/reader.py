"""What a reader of tables gets, and what it gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from client_sdk.data.tables.column_reader import ColumnReader, MakeReader

Found = tuple[list[ColumnReader], list[str]]
"""The readers of the file's columns, with all its cells, and notes on the file."""


class TableReader(ABC):
    """Reads files whose names end in one of `suffixes`.

    The meaning of a cell, the sentence for a fault and the description of the table are the same
    for all readers: they are those of `ColumnReader`, which gets all cells of its column.
    """

    suffixes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def read(self, path: Path, make: MakeReader, decimal: str | None) -> Found:
        """Read a file. `decimal` is a dot or a comma, where somebody says so. Raises DataError."""
