"""Reads .csv and .tsv files as hospitals and spreadsheets write them, a piece at a time.

It finds the encoding, the delimiter and the decimal sign. Memory holds a piece of the text, and 8
bytes a value. RFC 4180 describes the format; real files differ from it.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from client_sdk.data.tables.column_reader import MAX_COLUMNS, ColumnReader, MakeReader
from client_sdk.data.tables.readers.reader import Found, TableReader
from client_sdk.data.tables.words import MAX_WORD, decimal_sign, listed, number, plain, shown
from client_sdk.errors import DataError

MAX_ROWS = 100_000_000
_MAX_LINE = 1 << 24  # characters
_PIECE = 5000  # rows
_SAMPLE = 1 << 16  # of which the delimiter and the decimal sign are guessed
_DELIMITERS = ",;\t|"
# cp1252 is what Windows writes in western Europe. It has latin-1's letters, but not every byte.
_ENCODINGS = ("utf-8-sig", "cp1252", "latin-1")
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # byte order marks
_NO_TEXT = {
    b"PK\x03\x04": "an Excel workbook or a zip archive: save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the sheet as CSV",
    b"PAR1": "a Parquet file: its name must end in .parquet",
}
_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class _Piece:
    """Rows of one length. `where` says where a row stands in the file, by its place here."""

    rows: list[list[str]]
    where: Callable[[int], str]


class Delimited(TableReader):
    """Columns between commas, semicolons, tabs or bars, perhaps compressed with gzip."""

    suffixes = (".csv", ".csv.gz", ".tsv", ".tsv.gz")

    def read(self, path: Path, make: MakeReader, decimal: str | None) -> Found:
        """Read a file into readers of its columns, and notes on it. Raises DataError.

        It is read once more where its encoding turns out to be another one, or where words appear
        in a column after numbers.
        """
        try:
            with _opened(path) as file:
                start = file.read(_SAMPLE)
            marked = next((e for mark, e in _MARKS.items() if start.startswith(mark)), None)
            if marked is None:
                _require_text(path, start)
            for encoding in (marked,) if marked else _ENCODINGS:
                try:
                    readers, notes = _read_again(path, encoding, make, decimal)
                except UnicodeDecodeError:
                    continue
                if encoding not in ("utf-8-sig", marked):
                    notes.append(f"The file is not UTF-8: it is read as {encoding}.")
                return readers, notes
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DataError(f"{path} cannot be read: {reason}.") from error
        raise DataError(f"{path} begins as {marked} does, but is no such text.")


def _opened(path: Path) -> BinaryIO:
    """The bytes of the file, unpacked where they are gzip, whatever the name."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


def _require_text(path: Path, start: bytes) -> None:
    for mark, what in _NO_TEXT.items():
        if start.startswith(mark):
            raise DataError(f"{path} is {what}.")
    if b"\0" in start:
        raise DataError(f"{path} is no text: save the table as CSV in UTF-8.")
    if not start.strip():
        raise DataError(f"{path} is empty.")


def _read_again(
    path: Path, encoding: str, make: MakeReader, decimal: str | None
) -> tuple[list[ColumnReader], list[str]]:
    readers, notes = _read(path, encoding, make, decimal, frozenset())
    late = frozenset(reader.name for reader in readers if reader.words_after_numbers)
    return _read(path, encoding, make, decimal, late) if late else (readers, notes)


def _read(
    path: Path, encoding: str, make: MakeReader, decimal: str | None, as_words: frozenset[str]
) -> tuple[list[ColumnReader], list[str]]:
    with _opened(path) as file, io.TextIOWrapper(file, encoding, newline="") as text:
        sample = _sample(text.read(_SAMPLE))
    delimiter = _delimiter(path, sample)
    sign = decimal or ("." if delimiter == "," else _decimal(sample, delimiter))
    with _opened(path) as file, io.TextIOWrapper(file, encoding, newline="") as text:
        rows = csv.reader(
            _lines(path, text), delimiter=delimiter, skipinitialspace=True, strict=True
        )
        try:
            header = _header(path, rows)
            wanted = [
                (place, reader)
                for place, name in enumerate(header)
                if name and (reader := make(name, sign, name in as_words)) is not None
            ]
            count = 0
            for piece in _pieces(path, rows, len(header)):
                columns = list(zip(*piece.rows, strict=True))
                count += len(piece.rows)
                if count > MAX_ROWS:
                    raise DataError(f"{path} has more than {MAX_ROWS} rows.")
                for place, reader in wanted:
                    reader.add(columns[place], piece.where)
        except csv.Error as error:
            raise DataError(f"{path}, line {rows.line_num}: {_explained(error)}.") from error
    if not count:
        raise DataError(f"{path} has no rows below the names of its columns.")
    notes = ["A column without a name is left out."] if "" in header else []
    return [reader for _, reader in wanted], notes


def _lines(path: Path, text: TextIO) -> Iterator[str]:
    number_of_line = 0
    while line := text.readline(_MAX_LINE):
        number_of_line += 1
        if len(line) == _MAX_LINE:
            raise DataError(f"{path}, line {number_of_line}: the line is too long for a table.")
        yield line


def _explained(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text or "field limit" in text:
        return "a quotation mark opens a cell before this line, and none closes it"
    if "expected after" in text:
        return "a quotation mark stands inside a quoted cell; double it"
    return text


def _sample(text: str) -> str:
    """The text's whole lines, or all of it where it is one line."""
    if len(text) < _SAMPLE:
        return text
    return text[: text.rfind("\n") + 1] or text


def _delimiter(path: Path, sample: str) -> str:
    """The delimiter that cuts most rows as it cuts the line of names. Raises DataError."""
    found = []
    for delimiter in _DELIMITERS:
        rows = _parsed(sample, delimiter)
        if rows and len(rows[0]) > 1:
            same = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
            found.append((same, len(rows[0]), delimiter))
    if not found:
        raise DataError(
            f"{path} has one column only, where commas, semicolons, tabs or bars cut its lines."
        )
    return max(found, key=lambda one: one[:2])[2]


def _decimal(sample: str, delimiter: str) -> str:
    return decimal_sign([cell for row in _parsed(sample, delimiter)[1:] for cell in row])


def _parsed(sample: str, delimiter: str) -> list[list[str]]:
    """The rows of a sample; those before the first fault in it."""
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, skipinitialspace=True)
    with contextlib.suppress(csv.Error):
        rows += filter(None, reader)
    return rows


def _header(path: Path, rows: Any) -> list[str]:
    """The names of the columns, empty where there is none. Raises DataError."""
    header = [plain(name) for name in next(filter(any, rows), [])]
    if len(header) > MAX_COLUMNS:
        raise DataError(f"{path} has {len(header)} columns; {MAX_COLUMNS} are the most.")
    if all(number(name) is not None for name in header):
        raise DataError(
            f"{path}, line {rows.line_num}: names of columns are expected here, not numbers: "
            f"{listed(header)}."
        )
    if long := [name for name in header if len(name) > MAX_WORD]:
        raise DataError(
            f"{path}, line {rows.line_num}: the name of a column has more than {MAX_WORD} "
            f"characters: {shown(long[0])}."
        )
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        places = [n for n, name in enumerate(header, 1) if name == twice[0]]
        raise DataError(
            f"{path}, line {rows.line_num}: {len(places)} columns are called {shown(twice[0])}, "
            f"the {' and the '.join(f'{n}.' for n in places[:3])}: rename or delete all but one."
        )
    return header


def _pieces(path: Path, rows: Any, width: int) -> Iterator[_Piece]:
    """The rows in pieces, without blank lines. Raises DataError for a row of another length."""
    line = rows.line_num + 1
    while piece := list(islice(rows, _PIECE)):
        if {len(row) for row in piece} == {width}:
            yield _Piece(piece, _counting(path, line, piece))
        else:
            kept, lines = [], []
            for row in piece:
                if row:
                    kept.append(_fitted(path, line, row, width))
                    lines.append(line)
                line += _height(row)
            if kept:
                yield _Piece(kept, _looking_up(path, lines))
        line = rows.line_num + 1


def _counting(path: Path, first: int, piece: Sequence[list[str]]) -> Callable[[int], str]:
    def where(place: int) -> str:
        return f"{path}, line {first + sum(map(_height, piece[:place]))}"

    return where


def _looking_up(path: Path, lines: Sequence[int]) -> Callable[[int], str]:
    return lambda place: f"{path}, line {lines[place]}"


def _height(row: Sequence[str]) -> int:
    """How many lines of the file a row takes."""
    return 1 + sum(len(_BREAK.findall(cell)) for cell in row if "\n" in cell or "\r" in cell)


def _fitted(path: Path, line: int, row: list[str], width: int) -> list[str]:
    """The row, without empty cells beyond the last column. Raises DataError."""
    if len(row) < width or any(cell.strip() for cell in row[width:]):
        raise DataError(
            f"{path}, line {line}: the row has {len(row)} cells, but the table has {width} columns."
        )
    return row[:width]
