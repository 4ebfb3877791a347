"""Reads one column piece by piece: finds its kind, keeps its values, and names a bad cell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from client_sdk.data.tables.table import Column, Kind, as_category
from client_sdk.data.tables.words import (
    LARGEST,
    MAX_WORD,
    canonical,
    is_date,
    is_missing,
    number,
    number_fault,
    numbers,
    shown,
    truth,
)
from client_sdk.errors import DataError

MAX_COLUMNS = 10_000  # of a table
MAX_CATEGORIES = 1000  # of a column; more of them are free text
MAX_CLASSES = 8192
_FEW_CLASSES = 20  # a label of whole numbers, with at most so many of them, is a class
_FEW = 20  # rows; in fewer, words that all differ may be categories

Where = Callable[[int], str]
"""Where a cell of a piece stands in the file, such as "line 17", by its place in the piece."""


class ColumnReader:
    """Takes the cells of one column, then gives the column.

    `kind` is what somebody says that it is. Without it a column is of numbers as long as all its
    cells are. `words_after_numbers` tells that words came later: the numbers before them cannot be
    read again as words, so the caller reads the file once more with `as_words`. A label is a
    category where it is of words, or of a few whole numbers.
    """

    def __init__(
        self,
        name: str,
        kind: Kind | None = None,
        *,
        decimal: str = ".",
        as_words: bool = False,
        is_label: bool = False,
    ) -> None:
        self.name, self.kind, self.is_label = name, kind, is_label
        self.note = ""
        self.words_after_numbers = False
        self._decimal = decimal
        self._most = MAX_CLASSES if is_label else MAX_CATEGORIES
        self._reads_words = as_words or kind in ("category", "boolean")
        self._pieces: list[np.ndarray] = []  # of numbers; or of codes, -1 where a cell is missing
        self._codes: dict[str, int] = {}  # of each word, as it stands in the file
        self._known_numbers, self._known_words = 0, 0
        self._a_number, self._bad_word = "", ""

    def add(self, cells: Sequence[str], where: Where) -> None:
        """Read the next cells. Raises DataError where one cannot be of the column's kind."""
        if not self._reads_words:
            found = numbers(cells, self._decimal)
            if found is not None:
                self._add_numbers(found)
                return
            if self.kind == "number":
                bad = next(n for n, w in enumerate(cells) if number(w, self._decimal) is None)
                raise DataError(f"{self._at(bad, cells[bad], where)}.")
            self._reads_words, self.words_after_numbers = True, self._known_numbers > 0
            self._pieces = [np.full(len(piece), -1, np.int64) for piece in self._pieces]
        self._add_words(cells, where)

    def add_values(self, values: np.ndarray, where: Where) -> None:
        """Take numbers or bools [N], NaN for missing ones. Raises DataError for infinite ones."""
        if values.dtype == bool and self.is_label:
            self.add([str(value) for value in values], where)
            return
        if values.dtype == bool:
            self.kind = self.kind or "boolean"
        found = values.astype(np.float64)
        bad = np.abs(found) > LARGEST
        if bad.any():
            place = int(bad.argmax())
            raise DataError(f"{self._at(place, str(values[place]), where)}.")
        self._add_numbers(found)

    def column(self) -> Column | None:
        """The column, once; None where it cannot be used, and `note` says why.

        Raises DataError where most cells, but not all, are numbers.
        """
        values = np.concatenate(self._pieces) if self._pieces else np.empty(0)
        self._pieces.clear()  # else memory would hold all values twice
        if not self._reads_words:
            return self._of_numbers(values)
        if self.kind is None and self._known_numbers > self._known_words:
            raise DataError(
                f"{self._bad_word}, but most values of this column are numbers, such as "
                f"{self._a_number}: mend the cell or leave it empty, or say that the column is a "
                "category, or that it is to be ignored."
            )
        if len(self._codes) > self._most:
            many = f"has more than {self._most} different words"
            if self.kind is None:
                return self._left_out(many)
            raise DataError(f"Column {shown(self.name)} {many}, too many for a {self.kind}.")
        return self._of_words(values)

    def _add_numbers(self, found: np.ndarray) -> None:
        self._pieces.append(found)
        self._known_numbers += int((~np.isnan(found)).sum())

    def _add_words(self, cells: Sequence[str], where: Where) -> None:
        for word, count in Counter(cells).items():
            value = number(word, self._decimal)
            if value is None:
                self._known_words += count
                if not self._bad_word:
                    self._bad_word = self._at(cells.index(word), word, where)
            elif not math.isnan(value):
                self._known_numbers += count
                self._a_number = self._a_number or shown(word)
            if self.kind == "boolean" and not is_missing(word) and self._truth(word) is None:
                place = cells.index(word)
                raise DataError(
                    f"{where(place)}, column {shown(self.name)}: {shown(word)} is neither yes nor "
                    "no (true or false, 1 or 0)."
                )
            if len(self._codes) <= self._most:
                self._codes.setdefault(word, len(self._codes))
        if len(self._codes) > self._most:
            self._pieces.clear()  # they are of no use any more
        else:
            codes = map(self._codes.__getitem__, cells)
            self._pieces.append(np.fromiter(codes, np.int64, len(cells)))

    def _of_numbers(self, values: np.ndarray) -> Column | None:
        if self.kind is None and not self._known_numbers:
            return self._left_out("has no value in any row")
        if self.kind == "category" or (self.is_label and self.kind is None and _are_few(values)):
            return as_category(Column(self.name, "number", values))
        if self.is_label and self.kind is None:
            self.note = (
                f"The label {shown(self.name)} has numbers: they are estimated (regression)."
            )
        elif self.kind is None and _count_up(values):
            self.note = (
                f"Column {shown(self.name)} has another whole number in every row: if they are "
                "ids, ignore the column."
            )
        return Column(self.name, self.kind or "number", values)

    def _of_words(self, values: np.ndarray) -> Column | None:
        known = [word for word in self._codes if not is_missing(word)]
        words = sorted({canonical(word) for word in known})
        is_free = self.kind is None and not self.is_label
        are_truths = known and all(truth(word) is not None for word in known)
        if self.kind == "boolean" or (is_free and are_truths):
            return Column(self.name, "boolean", self._translate(values, self._truth, math.nan))
        if any(len(word) > MAX_WORD for word in words):
            long = f"has words of more than {MAX_WORD} characters"
            if is_free:
                return self._left_out(long)
            raise DataError(f"Column {shown(self.name)} {long}, too long for a category.")
        if is_free:
            if all(map(is_date, known)):
                return self._left_out("has dates; numbers, such as ages, can be used")
            if len(words) == self._known_words + self._known_numbers >= _FEW:
                return self._left_out("has another word in every row, as ids have")
        place = {word: n for n, word in enumerate(words)}
        codes = self._translate(values, lambda word: place[canonical(word)], -1)
        return Column(self.name, "category", codes, tuple(words))

    def _translate(
        self, values: np.ndarray, meaning: Callable[[str], float | None], missing: float
    ) -> np.ndarray:
        """The meaning of each code's word, of the type of `missing`."""
        found = [missing if is_missing(word) else meaning(word) for word in self._codes]
        table: np.ndarray = np.array([*found, missing], type(missing))
        return np.asarray(table[values])  # -1 takes the last one

    def _truth(self, word: str) -> bool | None:
        found = truth(word)
        if found is None and self.kind == "boolean":
            found = {1.0: True, 0.0: False}.get(number(word, self._decimal) or 0.0)
        return found

    def _at(self, place: int, word: str, where: Where) -> str:
        """Where a cell without a number stands, and what is wrong with it."""
        fault = number_fault(word, self._decimal)
        return f"{where(place)}, column {shown(self.name)}: {shown(word)} {fault}"

    def _left_out(self, why: str) -> Column | None:
        self.note = f"Column {shown(self.name)} {why}: it is left out."
        return None


def _are_few(values: np.ndarray) -> bool:
    known = np.unique(values[~np.isnan(values)])
    return len(known) <= _FEW_CLASSES and bool(np.all(known == np.floor(known)))


def _count_up(values: np.ndarray) -> bool:
    """Whether the values are whole numbers, all different, of more than a few rows."""
    if len(values) < _FEW or not np.all(values == np.floor(values)):  # false for NaN
        return False
    return len(np.unique(values)) == len(values)


MakeReader = Callable[[str, str, bool], ColumnReader | None]
"""Makes the reader of a column, by its name, the decimal sign and whether to read it as words.

None ignores the column.
"""
