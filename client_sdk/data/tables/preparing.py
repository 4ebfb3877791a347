"""Makes numbers of a table as its experiment's description says, and sums to agree on scales.

The parties add up counts, sums and squares of their columns. Mean and deviation of all data follow
from the totals (`serverless_fl.domain.scales`), and no party shows a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from client_sdk.data.tables.schema import ColumnSchema, Scale, Schema, require_scale
from client_sdk.data.tables.table import Column, Table, as_category
from client_sdk.data.tables.words import folded, listed, shown, truth
from client_sdk.errors import DataError
from serverless_fl.domain import agreement

if TYPE_CHECKING:
    from serverless_fl.wire.agreement import ScaleView

FARTHEST = 1e6  # deviations from the mean; farther values could overflow a float32 model


class Prepared(NamedTuple):
    """Inputs float32 [N, D]; labels [N], int64 places of classes or float32 scaled numbers, None
    where the table has no label; and sentences on what the description does not have.
    """

    x: np.ndarray
    y: np.ndarray | None
    notes: tuple[str, ...] = ()


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
        notes += _mapped(table.name, table.label, schema)
    return tuple(notes)


def _mapped(whose: str, label: Column, schema: Schema) -> list[str]:
    """A sentence on classes whose words are others here."""
    if schema.classes is None:
        return []
    own = as_category(label).categories
    places = [_class_of(whose, word, own, schema.classes, map_classes=True) for word in own]
    pairs = [
        f"{shown(word)} as {shown(schema.classes[place])}"
        for word, place in zip(own, places, strict=True)
        if word != schema.classes[place]
    ]
    return [f"Classes are matched: {', '.join(pairs)}."] if pairs else []


def prepare(table: Table, schema: Schema, *, map_classes: bool = False) -> Prepared:
    """Make inputs and labels of a table. Raises DataError as `check` does.

    A number is scaled to mean 0 and deviation 1 over all parties; a missing one is 0. A category is
    a 1 among zeros. With `map_classes` a class matches without regard to capitals and spaces, and
    1 is yes.
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


def labels(table: Table, schema: Schema, *, map_classes: bool = False) -> np.ndarray:
    """The labels alone, as `prepare` makes them. Raises DataError as `check` does."""
    if table.label is None:
        raise _no_label(table)
    return _labels(table.name, table.label, schema, map_classes)


def sums(table: Table, schema: Schema, *, map_classes: bool = False) -> list[agreement.ColumnSums]:
    """What the table adds to the scales of all parties, for each of `Schema.numeric`, in float64.

    Raises DataError as `check` does.
    """
    check(table, schema, map_classes=map_classes)
    columns = {column.name: column for column in table.columns}
    found = []
    for name in schema.numeric:
        column = columns.get(name) or table.label
        if column is None:
            raise _no_label(table)
        values = column.values[~column.missing]
        found.append(
            agreement.ColumnSums(
                column=name,
                count=len(values),
                sum=float(values.sum()),
                squares=float(values @ values),
            )
        )
    return found


def _no_label(table: Table) -> DataError:
    return DataError(f"{table.name}: say which column is the label.")


def with_scales(schema: Schema, scales: Sequence[agreement.Scale | ScaleView]) -> Schema:
    """The description with the scales of all parties' data. Raises DataError.

    A coordinator may have sent them: a table could have each of them.
    """
    found = {scale.column: Scale(scale.mean, scale.deviation) for scale in scales}
    for name in schema.numeric:
        if name not in found:
            raise DataError(f"The experiment has not fixed the mean of {shown(name)} yet.")
        try:
            require_scale(found[name])
        except ValueError as error:
            raise DataError(f"The scale of {shown(name)} cannot be used: {error}.") from error
    columns = tuple(
        replace(c, scale=None if c.kind == "category" else found[c.name]) for c in schema.columns
    )
    label_scale = found[schema.label] if schema.classes is None else None
    return replace(schema, columns=columns, label_scale=label_scale)


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
    x[:, 0] = np.where(missing, 0, np.clip(scaled, -FARTHEST, FARTHEST))


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
    own = label.categories
    places = [_class_of(whose, word, own, schema.classes, map_classes) for word in own]
    found: np.ndarray = np.array(places, np.int64)[label.values]
    return found


def _truth(word: str) -> bool | None:
    """The truth value of a word or of the number 1 or 0."""
    return {"1": True, "0": False}.get(word.strip(), truth(word))


def _class_of(
    whose: str, word: str, own: Sequence[str], classes: Sequence[str], map_classes: bool
) -> int:
    if word in classes:
        return classes.index(word)
    alike = [n for n, other in enumerate(classes) if folded(other) == folded(word)]
    if not alike and (meant := _truth(word)) is not None:  # 1 is yes, where there is one yes
        alike = [n for n, other in enumerate(classes) if _truth(other) == meant]
    if map_classes and len(alike) == 1:
        return alike[0]
    hint = f" (--map-classes takes it for {shown(classes[alike[0]])})" if len(alike) == 1 else ""
    raise DataError(
        f"{whose}: {shown(word)} is none of the experiment's classes{hint}: "
        f"{listed(classes)} there, {listed(own)} here."
    )
