"""Reads a user's own file, or a DataFrame, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client_sdk.data.tables import arrays
from client_sdk.data.tables.column_reader import ColumnReader, MakeReader
from client_sdk.data.tables.readers import READERS
from client_sdk.data.tables.readers.reader import Found
from client_sdk.data.tables.table import IGNORE, WANTED, Table, Wanted
from client_sdk.data.tables.words import listed, plain, shown
from client_sdk.errors import DataError

if TYPE_CHECKING:
    from client_sdk.data.tables.schema import Schema


def is_table(path: Path) -> bool:
    """Whether the file's name ends as that of a table that this module reads."""
    return _suffix(path) is not None


def read_table(
    source: str | Path | Any,
    label: str | None = None,
    *,
    kinds: Mapping[str, str] | None = None,
    decimal: str | None = None,
    like: Schema | None = None,
) -> Table:
    r"""Read a file (.csv, .tsv, also .gz; .npz; .parquet), or a DataFrame, as a table.

    `label` names the column to predict; rows without it are left out. `kinds` says what a column
    is, by its name, where the guess is wrong: number, boolean, category, or ignore. `decimal` is a
    dot or a comma, guessed where it is not given. With `like`, the columns and their kinds are the
    schema's and others are ignored. Raises DataError: a sentence with line and column.

    >>> from pathlib import Path; from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "a.csv"
    >>> _ = path.write_text("age;smokes;sick\n61,5;yes;1\n?;no;0\n")
    >>> table = read_table(path, "sick")
    >>> [(c.name, c.kind, c.values.tolist()) for c in table.columns]
    [('age', 'number', [61.5, nan]), ('smokes', 'boolean', [1.0, 0.0])]
    >>> table.label.categories
    ('0', '1')
    """
    if decimal not in (None, ".", ","):
        raise DataError(f"The decimal sign is a dot or a comma, not {shown(str(decimal))}.")
    label = plain(label) if label is not None else None
    kinds = {plain(name): kind for name, kind in (kinds or {}).items()}
    wanted = _wanted_kinds(kinds, label, like)

    def make(name: str, sign: str, as_words: bool) -> ColumnReader | None:
        kind = wanted.get(name) if like is None else wanted.get(name, IGNORE)
        if kind == IGNORE:
            return None
        return ColumnReader(name, kind, decimal=sign, as_words=as_words, is_label=name == label)

    notes: list[str]
    if hasattr(source, "columns") and hasattr(source, "to_numpy"):
        name, notes = "table", []
        readers = arrays.read_frame(source, make)
    else:
        path = Path(source)
        name = path.name[: -len(_suffix(path) or "")]
        readers, notes = _read_file(path, make, decimal)
    _require(name, kinds, label, readers)
    return _assembled(name, readers, notes, label)


def _suffix(path: Path) -> str | None:
    """The ending of `READERS` that the file's name has."""
    name = path.name.lower()
    return max((s for s in READERS if name.endswith(s)), key=len, default=None)


def _read_file(path: Path, make: MakeReader, decimal: str | None) -> Found:
    suffix = _suffix(path)
    if suffix is None:
        raise DataError(f"{path}: a table's name ends in one of {', '.join(READERS)}.")
    if not path.is_file():
        raise DataError(f"There is no file {str(path)!r}.")
    try:
        return READERS[suffix]().read(path, make, decimal)
    except MemoryError as error:
        raise DataError(f"{path} does not fit into the memory here.") from error


def _wanted_kinds(
    kinds: Mapping[str, str], label: str | None, like: Schema | None
) -> dict[str, Wanted]:
    """What each column is, as far as somebody says so. Raises DataError."""
    wanted: dict[str, Wanted] = {}
    for name, said in kinds.items():
        kind = next((one for one in WANTED if one == said), None)
        if kind is None:
            raise DataError(f"Column {shown(name)} can be {', '.join(WANTED)}, not {shown(said)}.")
        if name == label and kind == IGNORE:
            raise DataError(f"The column {shown(name)} is the label: it cannot be ignored.")
        wanted[name] = "category" if name == label and kind == "boolean" else kind
    if like is not None:
        wanted = {column.name: column.kind for column in like.columns}
        if label is not None:
            wanted[label] = "number" if like.classes is None else "category"
    return wanted


def _require(
    name: str, kinds: Mapping[str, str], label: str | None, readers: Sequence[ColumnReader]
) -> None:
    """Raises DataError where a column that somebody names is not there."""
    there = [reader.name for reader in readers]
    for wanted, what in [*((n, "column") for n in kinds), (label, "label")]:
        ignored = what == "column" and kinds[str(wanted)] == IGNORE
        if wanted is None or wanted in there or ignored:
            continue
        near = get_close_matches(wanted, there, n=1)
        hint = f"; did you mean {shown(near[0])}?" if near else "."
        raise DataError(
            f"{name} has no {what} {shown(wanted)}: its columns are {listed(there)}{hint}"
        )


def _assembled(
    name: str, readers: Sequence[ColumnReader], notes: Sequence[str], label: str | None
) -> Table:
    """The table of what was read, without rows that lack the label. Raises DataError."""
    columns = [(reader, reader.column()) for reader in readers]
    notes = [*notes, *(reader.note for reader in readers if reader.note)]
    used = tuple(found for reader, found in columns if found and reader.name != label)
    target = next((found for reader, found in columns if reader.name == label), None)
    if (label is not None and target is None) or (target and target.missing.all()):
        raise DataError(f"{name}: no row has a label in the column {shown(label or '')}.")
    if not used:
        raise DataError(f"{name} has no column to learn from. {' '.join(notes)}".rstrip())
    table = Table(name, used, target, tuple(notes))
    if target is None or not target.missing.any():
        return table
    lost = int(target.missing.sum())
    rows = "1 row has no label and is" if lost == 1 else f"{lost} rows have no label and are"
    return replace(table.take(~target.missing), notes=(*notes, f"{rows} left out."))
