"""A table: named columns of one length, and perhaps the column to predict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Literal, get_args

import numpy as np

from client_sdk.data.tables.words import canonical

Kind = Literal["number", "boolean", "category"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Wanted = Literal["number", "boolean", "category", "ignore"]
"""What somebody may say that a column is."""
WANTED: tuple[Wanted, ...] = get_args(Wanted)
IGNORE: Final = "ignore"


@dataclass(frozen=True)
class Column:
    """One column. Its values [N] are float64, NaN where one is missing, 0 and 1 for no and yes.

    Those of a category are int64, places in `categories`, -1 where one is missing.
    """

    name: str
    kind: Kind
    values: np.ndarray
    categories: tuple[str, ...] = ()

    @property
    def missing(self) -> np.ndarray:
        """Whether a row has no value, bool [N]."""
        return self.values < 0 if self.kind == "category" else np.isnan(self.values)

    def take(self, rows: np.ndarray) -> Column:
        """The column with these rows: places, or a bool for each."""
        return replace(self, values=self.values[rows])


def as_category(column: Column) -> Column:
    """A column of numbers as a category, 1.0 as 1. Others stay as they are."""
    if column.kind == "category":
        return column
    known = np.unique(column.values[~column.missing])
    names = [canonical(repr(float(value))) for value in known]
    words = tuple(sorted(names))
    place = {word: n for n, word in enumerate(words)}
    places = np.array([*(place[name] for name in names), -1], np.int64)
    codes = np.where(column.missing, len(known), np.searchsorted(known, column.values))
    return Column(column.name, "category", places[codes], words)


@dataclass(frozen=True)
class Table:
    """Columns to learn from, and the label: a category is a class, a number is a value to estimate.

    `label` is None where the table is for prediction. Missing values stay as they are in columns; a
    row without a label is left out. `notes` says in sentences what the reader left out or guessed.
    """

    name: str
    columns: tuple[Column, ...]
    label: Column | None = None
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.columns[0].values) if self.columns else 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns to learn from, in order."""
        return tuple(column.name for column in self.columns)

    def take(self, rows: Iterable[int] | np.ndarray) -> Table:
        """The table with these rows only: places, or a bool for each."""
        found = rows if isinstance(rows, np.ndarray) else np.fromiter(rows, np.int64)
        return replace(
            self,
            columns=tuple(column.take(found) for column in self.columns),
            label=self.label and self.label.take(found),
        )
