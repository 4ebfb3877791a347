"""Tables of several sites, prepared alike as the parties of an experiment prepare theirs.

sites = read_sites(["north.csv", "south.csv"], label="diagnosis")
result = simulate(SklearnTask(LogisticRegression()), train=sites, test=sites.read("test.csv"))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from client_sdk.data.data import Arrays
from client_sdk.data.joined import join
from client_sdk.data.tables.preparing import check, prepare, sums, with_scales
from client_sdk.data.tables.reading import read_table
from client_sdk.data.tables.schema import ColumnSchema, Schema, describe, without_scales
from client_sdk.data.tables.table import Table
from client_sdk.errors import DataError
from serverless_fl.domain.scales import scales_of


class SiteTables(Mapping[str, Arrays]):
    """Inputs float32 [N, D] and labels [N] of each site, by its name.

    `schema` says how the columns became inputs: labels are places in `schema.classes`, or scaled
    numbers. `notes` say what the reader left out or guessed.
    """

    def __init__(self, tables: Mapping[str, Table], schema: Schema) -> None:
        self.schema = schema
        self.notes = tuple(
            f"{name}: {note}" for name, table in tables.items() for note in table.notes
        )
        self._sites = {name: _prepared(table, schema) for name, table in tables.items()}

    def __getitem__(self, name: str) -> Arrays:
        return self._sites[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    @property
    def pooled(self) -> Arrays:
        """The rows of all sites, which nobody has where the sites are real."""
        found = join(list(self._sites.values()))
        assert isinstance(found, Arrays)  # noqa: S101  (a join of such)
        return found

    def read(self, source: str | Path | Any) -> Arrays:
        """Another table, prepared as those of the sites: one to test on. Raises DataError."""
        return _prepared(read_table(source, self.schema.label, like=self.schema), self.schema)


def read_sites(
    sources: Mapping[str, Any] | Sequence[Any],
    label: str,
    *,
    kinds: Mapping[str, str] | None = None,
) -> SiteTables:
    """Read a table of each site; `label` is the column to predict.

    `sources` are files or DataFrames by the sites' names; files without names have their own. All
    sites get the columns of the first, and the categories and classes of all. Mean and deviation
    are those of all rows, from sums that each site could send without showing a row. A missing
    number becomes the mean, and an input says so where a site lacks values of its column.

    Raises DataError: a file cannot be read, or a site lacks a column.
    """
    named = sources if isinstance(sources, Mapping) else _by_file(sources)
    if not named:
        raise DataError("There is no site: give a table for each.")
    (first, source), *others = named.items()
    tables = {first: read_table(source, label, kinds=kinds)}
    like = describe(tables[first])
    for name, other in others:
        tables[name] = read_table(other, label, like=like)
        like = _united(like, describe(tables[name]))
    for name, table in tables.items():
        check(replace(table, name=name), like)
    bare = without_scales(like)
    scales = scales_of(bare.numeric, [sums(table, bare) for table in tables.values()])
    return SiteTables(tables, with_scales(bare, scales))


def _by_file(sources: Sequence[Any]) -> dict[str, Any]:
    """The names of files without their endings. Raises DataError."""
    if isinstance(sources, str | Path) or any(not isinstance(s, str | Path) for s in sources):
        raise DataError("Give the files of the sites in a list, or tables by the sites' names.")
    found = {Path(source).name.split(".")[0]: source for source in sources}
    if len(found) != len(sources):
        raise DataError("Two sites have the same name: give {name: file}.")
    return found


def _united(one: Schema, other: Schema) -> Schema:
    """The columns of `one` with the categories and the classes of both, in the order of words."""
    theirs = {column.name: column for column in other.columns}
    classes = one.classes
    if classes is not None:
        classes = tuple(sorted({*classes, *(other.classes or ())}))
    return replace(
        one, columns=tuple(_joined(c, theirs.get(c.name)) for c in one.columns), classes=classes
    )


def _joined(one: ColumnSchema, other: ColumnSchema | None) -> ColumnSchema:
    if other is None:  # `check` names the column and the site
        return one
    return replace(
        one,
        categories=tuple(sorted({*one.categories, *other.categories})),
        indicator=one.indicator or other.indicator,
    )


def _prepared(table: Table, schema: Schema) -> Arrays:
    x, y, _ = prepare(table, schema)
    return Arrays(x, y)
