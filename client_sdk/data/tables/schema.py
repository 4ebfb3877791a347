"""Describes tables of one experiment: columns in order, categories, classes, normalisation.

A model file carries the description as JSON, so that every party and every prediction prepares a
table alike. A stranger may have written it: `Schema.from_json` bounds and checks all of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from client_sdk.data.tables.column_reader import MAX_CATEGORIES, MAX_CLASSES, MAX_COLUMNS
from client_sdk.data.tables.table import KINDS, Column, Kind, Table
from client_sdk.data.tables.words import LARGEST, MAX_WORD, plain
from client_sdk.errors import DataError

MAX_TEXT = 1_000_000  # characters of the JSON; a model's header may have four megabytes
MAX_INPUTS = 100_000
OTHER = "(other)"


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of a column's known values over all parties; the deviation is above 0."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class ColumnSchema:
    """A column to learn from. Numbers and booleans have a scale once it is agreed.

    `indicator` adds an input that is 1 where the value is missing. A missing number becomes the
    mean, and a missing category is no category at all.
    """

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()
    scale: Scale | None = None
    indicator: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs of a model that the column becomes."""
        found = [self.name]
        if self.kind == "category":  # the last is for words that the description does not have
            found = [f"{self.name}={word}" for word in (*self.categories, OTHER)]
        return (*found, f"{self.name} is missing") if self.indicator else tuple(found)


@dataclass(frozen=True)
class Schema:
    """The columns in order, and the label: `classes` in order, or None where it is a number.

    `label_scale` is the mean and the deviation of such a number.
    """

    columns: tuple[ColumnSchema, ...]
    label: str
    classes: tuple[str, ...] | None
    label_scale: Scale | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of a model's inputs, in order."""
        return tuple(name for column in self.columns for name in column.inputs)

    @property
    def numeric(self) -> tuple[str, ...]:
        """The names of what is scaled: columns of numbers and booleans, and a label of numbers."""
        names = tuple(c.name for c in self.columns if c.kind != "category")
        return names if self.classes is not None else (*names, self.label)

    def to_json(self) -> str:
        """The description as JSON, which `from_json` reads. Equal ones give the same text."""
        columns = []
        for column in self.columns:
            one: dict[str, Any] = {"name": column.name, "kind": column.kind}
            if column.kind == "category":
                one["categories"] = column.categories
            if column.scale:
                one |= {"mean": column.scale.mean, "deviation": column.scale.deviation}
            if column.indicator:
                one["indicator"] = True
            columns.append(one)
        label: dict[str, Any] = {"name": self.label}
        if self.classes is not None:
            label["classes"] = self.classes
        elif self.label_scale:
            label |= {"mean": self.label_scale.mean, "deviation": self.label_scale.deviation}
        return json.dumps({"columns": columns, "label": label}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """Read a description, perhaps a stranger's. Raises DataError."""
        if len(text) > MAX_TEXT:
            raise DataError(f"The description of the table is longer than {MAX_TEXT} characters.")
        try:
            found = json.loads(text)
            label = found["label"]
            schema = cls(
                tuple(_column_of(one) for one in found["columns"]),
                label["name"],
                tuple(label["classes"]) if "classes" in label else None,
                _scale_of(label),
            )
            _check(schema)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(f"The description of the table cannot be used: {error}.") from error
        return schema


def describe(table: Table, *, indicators: bool | None = None) -> Schema:
    """The description of this table, whose scales are its own. Raises DataError.

    Columns get an indicator where values are missing here; all or none do with `indicators`.
    """
    if table.label is None:
        raise DataError(f"{table.name}: say which column is the label.")
    columns = tuple(
        ColumnSchema(
            column.name,
            column.kind,
            column.categories,
            None if column.kind == "category" else _measured(column),
            bool(column.missing.any()) if indicators is None else indicators,
        )
        for column in table.columns
    )
    is_class = table.label.kind == "category"
    schema = Schema(
        columns,
        table.label.name,
        table.label.categories if is_class else None,
        None if is_class else _measured(table.label),
    )
    try:
        _check(schema)
    except ValueError as error:
        raise DataError(f"{table.name} cannot be described: {error}.") from error
    return schema


def without_scales(schema: Schema) -> Schema:
    """The description before mean and deviation are agreed."""
    columns = tuple(replace(column, scale=None) for column in schema.columns)
    return replace(schema, columns=columns, label_scale=None)


def _measured(column: Column) -> Scale:
    known = column.values[~column.missing]
    if not len(known):
        return Scale(0.0, 1.0)
    mean, deviation = float(known.mean()), float(known.std())
    # A column of one value stays at 0: a division by next to nothing would blow it up.
    return Scale(mean, deviation if deviation > 1e-9 * max(1.0, abs(mean)) else 1.0)


def _column_of(one: dict[str, Any]) -> ColumnSchema:
    return ColumnSchema(
        one["name"],
        one["kind"],
        tuple(one.get("categories", ())),
        _scale_of(one),
        one.get("indicator", False),
    )


def _scale_of(one: dict[str, Any]) -> Scale | None:
    return Scale(one["mean"], one["deviation"]) if "mean" in one or "deviation" in one else None


def _check(schema: Schema) -> None:
    """Raises ValueError for a description that no table could have."""
    if not 1 <= len(schema.columns) <= MAX_COLUMNS:
        raise ValueError(f"a table has 1 to {MAX_COLUMNS} columns, not {len(schema.columns)}")
    _check_words([*(column.name for column in schema.columns), schema.label], "column")
    if schema.classes is not None:
        _check_words(schema.classes, "class")
        if not 1 <= len(schema.classes) <= MAX_CLASSES:
            raise ValueError(f"there are 1 to {MAX_CLASSES} classes, not {len(schema.classes)}")
        if schema.label_scale:
            raise ValueError("a label of classes has no mean")
    width = 0
    for column in schema.columns:
        if column.kind not in KINDS or type(column.indicator) is not bool:
            raise ValueError(f"column {column.name!r} is of an unknown kind")
        if len(column.categories) > (MAX_CATEGORIES if column.kind == "category" else 0):
            raise ValueError(f"column {column.name!r} has too many categories")
        if column.kind == "category" and column.scale:
            raise ValueError(f"column {column.name!r} is a category and has a mean")
        _check_words(column.categories, "category")
        width += len(column.categories) + 2
    if width > MAX_INPUTS + 2 * len(schema.columns):
        raise ValueError(f"it has more than {MAX_INPUTS} categories")
    for scale in (*(column.scale for column in schema.columns), schema.label_scale):
        if scale:
            require_scale(scale)


def _check_words(words: Sequence[object], what: str) -> None:
    for word in words:
        if not isinstance(word, str) or not word or len(word) > MAX_WORD or plain(word) != word:
            raise ValueError(
                f"the {what} {str(word)[:40]!r} is no plain text of 1 to {MAX_WORD} characters"
            )
    if len(set(words)) != len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise ValueError(f"there are two of the {what} {str(twice)[:40]!r}")


def require_scale(scale: Scale) -> None:
    """Raise ValueError for a scale that no table could have."""
    for value in (scale.mean, scale.deviation):
        # Of a table, both are within twice the largest value. The comparison is false for NaN.
        if type(value) not in (int, float) or not abs(value) <= 2 * LARGEST:
            raise ValueError("a mean or a deviation is no finite number")
    if scale.deviation <= 0:
        raise ValueError("a deviation is not above 0")
