"""Makes numbers of a table as its experiment's description says, and sums to agree on scales.

The parties add up counts, sums and squares of their columns. Mean and deviation of all data follow
from the totals, and no party shows a row (Chan, Golub and LeVeque, "Algorithms for computing the
sample variance", The American Statistician 37, 1983, on sums about a shift).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np

from client_sdk.data.tables.schema import ColumnSchema, Scale, Schema
from client_sdk.data.tables.table import Column, Table, as_category
from client_sdk.data.tables.words import LARGEST, listed, shown
from client_sdk.errors import DataError

_FARTHEST = 1e6  # deviations from the mean; farther values could overflow a float32 model


class Prepared(NamedTuple):
    """Inputs float32 [N, D]; labels [N], int64 places of classes or float32 scaled numbers, None
    where the table has no label; and sentences on what the description does not have.
    """

    x: np.ndarray
    y: np.ndarray | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sums:
    """Of a party's table: rows, and for each of `Schema.numeric` the number of known values, their
    sum and the sum of their squares, about the scale's mean where the description has one.
    """

    rows: int
    counts: tuple[int, ...]
    sums: tuple[float, ...]
    squares: tuple[float, ...]


def check(table: Table, schema: Schema, *, map_classes: bool = False) -> tuple[str, ...]:
    """Compare a table with the description; gives notes on what does no harm.

    Raises DataError for a missing column, one of another kind, a class that the experiment does not
    have. The sentence has both sides' words.
    """
    if table.label is not None and table.label.name != schema.label:
        raise DataError(
            f"{table.name}: the label is {shown(schema.label)} in the experiment, "
            f"{shown(table.label.name)} here."
        )
    notes = []
    own, theirs = table.names, [column.name for column in schema.columns]
    if lacking := [name for name in theirs if name not in own]:
        near = get_close_matches(lacking[0], own, n=1)
        hint = f" (is it {shown(near[0])}?)" if near else ""
        raise DataError(
            f"{table.name} has no column {shown(lacking[0])}{hint}, which the experiment has: "
            f"{listed(theirs)} there, {listed(own)} here."
        )
    if more := [name for name in own if name not in theirs]:
        notes.append(f"Columns that the experiment does not have are not used: {listed(more)}.")
    columns = {column.name: column for column in table.columns}
    for wanted in schema.columns:
        notes += _check_column(table.name, columns[wanted.name], wanted)
    if table.label is not None:
        _labels(table.name, table.label, schema, map_classes)
    return tuple(notes)


def prepare(table: Table, schema: Schema, *, map_classes: bool = False) -> Prepared:
    """Make inputs and labels of a table. Raises DataError as `check` does.

    A number is scaled to mean 0 and deviation 1 over all parties; a missing one is 0. A category is
    a 1 among zeros. With `map_classes` a class matches without regard to capitals and spaces.
    """
    notes = check(table, schema, map_classes=map_classes)
    columns = {column.name: column for column in table.columns}
    x = np.zeros((len(table), len(schema.inputs)), np.float32)
    place = 0
    for wanted in schema.columns:
        width = len(wanted.inputs)
        _fill(x[:, place : place + width], columns[wanted.name], wanted)
        place += width
    y = None
    if table.label is not None:
        y = _labels(table.name, table.label, schema, map_classes)
    return Prepared(x, y, notes)


def sums(table: Table, schema: Schema) -> Sums:
    """What the table adds to the scales of all parties, in float64. Raises DataError as `check`."""
    check(table, schema)
    columns = {column.name: column for column in table.columns}
    found = []
    for name, centre in zip(schema.numeric, _centres(schema), strict=True):
        column = columns.get(name) or table.label
        if column is None:
            raise DataError(f"{table.name}: say which column is the label.")
        values = column.values[~column.missing] - centre
        found.append((len(values), float(values.sum()), float(values @ values)))
    counts, totals, squares = zip(*found, strict=True) if found else ((), (), ())
    return Sums(len(table), tuple(counts), tuple(totals), tuple(squares))


def with_normalisation(schema: Schema, parties: Sequence[Sums]) -> Schema:
    """The description with mean and deviation of all parties' data, in any order of the parties.

    `schema` is the one that the sums were made with. Raises DataError for sums of other columns, or
    that no table has.
    """
    names = schema.numeric
    for one in parties:
        _check_sums(one, len(names))
    scales = {}
    for n, (name, centre) in enumerate(zip(names, _centres(schema), strict=True)):
        count = sum(one.counts[n] for one in parties)
        total = math.fsum(one.sums[n] for one in parties)
        square = math.fsum(one.squares[n] for one in parties)
        scales[name] = _scale(count, total, square, centre)
    columns = tuple(replace(c, scale=scales.get(c.name)) for c in schema.columns)
    label_scale = scales[schema.label] if schema.classes is None else None
    return replace(schema, columns=columns, label_scale=label_scale)


def _centres(schema: Schema) -> list[float]:
    scales = [column.scale for column in schema.columns if column.kind != "category"]
    if schema.classes is None:
        scales.append(schema.label_scale)
    return [scale.mean if scale else 0.0 for scale in scales]


def _scale(count: int, total: float, square: float, centre: float) -> Scale:
    if not count:
        return Scale(centre, 1.0)
    shift = total / count
    deviation = math.sqrt(max(0.0, square / count - shift * shift))
    # A column of one value stays at 0: a division by next to nothing would blow it up.
    is_flat = deviation <= 1e-9 * max(1.0, abs(centre + shift), math.sqrt(square / count))
    return Scale(centre + shift, 1.0 if is_flat else deviation)


def _check_sums(one: Sums, width: int) -> None:
    if not len(one.counts) == len(one.sums) == len(one.squares) == width:
        raise DataError(f"A party's sums are of other columns than the {width} of the description.")
    numbers = zip(one.counts, one.sums, one.squares, strict=True)
    most = 2 * LARGEST  # of a value about a centre; no comparison holds for NaN
    if not all(
        0 <= count <= one.rows and abs(total) <= count * most and 0 <= square <= count * most**2
        for count, total, square in numbers
    ):
        raise DataError("A party's sums are those of no table.")


def _check_column(whose: str, own: Column, wanted: ColumnSchema) -> list[str]:
    if wanted.kind != "category":
        if own.kind == "category":
            raise DataError(
                f"{whose}: column {shown(own.name)} has {wanted.kind}s in the experiment, but "
                f"words here: {listed(own.categories)}."
            )
        if wanted.kind == "boolean" and not np.isin(own.values[~own.missing], (0, 1)).all():
            raise DataError(
                f"{whose}: column {shown(own.name)} is yes or no (1 or 0) in the experiment, but "
                "has other numbers here."
            )
        return []
    own = as_category(own)
    unknown = [word for word in own.categories if word not in wanted.categories]
    if not unknown:
        return []
    many = int(np.isin(own.values, [own.categories.index(word) for word in unknown]).sum())
    return [
        f"Column {shown(own.name)}: {listed(unknown)} are none of the experiment's "
        f"{listed(wanted.categories)}: {many} values count as other."
    ]


def _fill(x: np.ndarray, own: Column, wanted: ColumnSchema) -> None:
    """Write a column's inputs into x [N, width], which is 0."""
    missing = own.missing
    if wanted.indicator:
        x[:, -1] = missing
    if wanted.kind == "category":
        own = as_category(own)
        known = {word: n for n, word in enumerate(wanted.categories)}
        places = np.array([known.get(w, len(known)) for w in own.categories] + [0], np.int64)
        rows = np.flatnonzero(~missing)
        x[rows, places[own.values[rows]]] = 1
        return
    if wanted.scale is None:
        raise DataError(
            f"The description has no mean of {shown(wanted.name)} yet: the parties agree "
            "on it first."
        )
    scaled = (own.values - wanted.scale.mean) / wanted.scale.deviation
    x[:, 0] = np.where(missing, 0, np.clip(scaled, -_FARTHEST, _FARTHEST))


def _labels(whose: str, label: Column, schema: Schema, map_classes: bool) -> np.ndarray:
    """Labels [N]: int64 places of classes, or float32 scaled numbers. Raises DataError."""
    if schema.classes is None:
        if label.kind == "category":
            raise DataError(
                f"{whose}: the label {shown(label.name)} is a number in the experiment, but has "
                f"the classes {listed(label.categories)} here."
            )
        scale = schema.label_scale or Scale(0.0, 1.0)
        return ((label.values - scale.mean) / scale.deviation).astype(np.float32)
    label = as_category(label)
    places = [_class_of(whose, word, schema.classes, map_classes) for word in label.categories]
    found: np.ndarray = np.array(places, np.int64)[label.values]
    return found


def _class_of(whose: str, word: str, classes: Sequence[str], map_classes: bool) -> int:
    if word in classes:
        return classes.index(word)
    alike = [n for n, other in enumerate(classes) if _folded(other) == _folded(word)]
    if map_classes and len(alike) == 1:
        return alike[0]
    hint = (
        f" ({shown(classes[alike[0]])} is spelt otherwise: --map-classes)"
        if len(alike) == 1
        else ""
    )
    raise DataError(
        f"{whose}: {shown(word)} is none of the experiment's classes{hint}: "
        f"{listed(classes)} there."
    )


def _folded(word: str) -> str:
    return " ".join(word.casefold().split())
