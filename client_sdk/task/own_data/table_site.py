"""A party's own table, as the experiment's model describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from client_sdk.data.data import Arrays
from client_sdk.data.tables import preparing
from client_sdk.data.tables.reading import read_table
from client_sdk.data.tables.schema import Schema
from client_sdk.data.tables.table import Column, Table
from client_sdk.data.tables.words import shown
from client_sdk.errors import DataError
from client_sdk.task.label_counts import label_counts
from client_sdk.task.own_data.site import Declaration, bounded, facts_of_classes, facts_of_task
from client_sdk.task.own_data.table_task import TableTask
from client_sdk.task.task import Task
from serverless_fl.domain.agreement import Agreement, ColumnSums
from serverless_fl.wire.agreement import ScaleView

FEWEST = 5  # values in a sum that leaves the party: a sum of fewer would tell single values
_FAR = 5.0  # deviations between a party's mean and the experiment's: perhaps another unit
_WIDE = 30.0  # times a party's deviation: parties with other units blow up that of all


def agreement_of(task: TableTask, *, federated: bool) -> Agreement:
    """The terms for tables: the label, its classes, each column's kind, and what is scaled."""
    schema = task.schema
    facts = facts_of_task(task) | {"label": schema.label} | facts_of_classes(schema.classes or ())
    for column in schema.columns:
        kind = ": ".join([column.kind, *([", ".join(column.categories)] * bool(column.categories))])
        facts[f"column {column.name}"] = kind
    return bounded(Agreement(facts, schema.numeric if federated else ()))


class TableSite:
    """A table whose columns, kinds and classes are the experiment's.

    `federated`: the parties' sums fix the scales of the columns. Raises DataError, with the words
    of both sides.
    """

    def __init__(
        self, path: Path, task: TableTask, label: str | None, *, federated: bool, map_classes: bool
    ) -> None:
        self._task, self._federated, self._map_classes = task, federated, map_classes
        self._table, notes = read_like(path, task.schema, label, map_classes=map_classes)
        self.notes = (*self._table.notes, *notes)
        if not federated:
            self.notes += tuple(_far_columns(self._table, task.schema))

    def declaration(self) -> Declaration:
        """The number of rows, the facts, and sums of columns that have enough values."""
        schema = self._task.schema
        facts = agreement_of(self._task, federated=self._federated).facts
        found = (
            preparing.sums(self._table, schema, map_classes=self._map_classes)
            if self._federated
            else []
        )
        sums = [
            one
            if one.count >= FEWEST
            else ColumnSums(column=one.column, count=0, sum=0.0, squares=0.0)
            for one in found
        ]
        return Declaration(len(self._table), facts, sums)

    def label_counts(self) -> Mapping[str, int]:
        """How many rows each class has."""
        schema = self._task.schema
        labels = preparing.labels(self._table, schema, map_classes=self._map_classes)
        return label_counts(labels, schema.classes)

    def ready(self, scales: Sequence[ScaleView]) -> tuple[Task, Arrays, Sequence[str]]:
        """The task with its scales, and prepared rows."""
        schema, notes = self._task.schema, []
        if self._federated:
            schema = preparing.with_scales(schema, scales)
            notes = _far_columns(self._table, schema)
        x, y, _ = preparing.prepare(self._table, schema, map_classes=self._map_classes)
        return TableTask(schema, self._task.network), Arrays(x, y), notes


def read_like(
    path: Path, schema: Schema, label: str | None, *, map_classes: bool
) -> tuple[Table, Sequence[str]]:
    """The table as the experiment describes it, and notes. Raises DataError.

    A file that does not fit is read once more as it is, so that the message has its own words.
    """
    label = label or schema.label
    try:
        table = read_table(path, label, like=schema)
        return table, preparing.check(table, schema, map_classes=map_classes)
    except DataError:
        preparing.check(read_table(path, label), schema, map_classes=map_classes)
        raise


def _far_columns(table: Table, schema: Schema) -> list[str]:
    """A sentence for each column of numbers whose mean here is far from the experiment's."""
    own = {column.name: column for column in table.columns}
    notes = []
    for wanted in schema.columns:
        if wanted.kind != "number" or wanted.scale is None:
            continue
        mean, deviation = _measured(own[wanted.name])
        scale = wanted.scale
        far = not abs(mean - scale.mean) <= _FAR * max(scale.deviation, deviation)
        if far or scale.deviation > _WIDE * deviation > 0:
            notes.append(
                f"Column {shown(wanted.name)} has the mean {mean:.4g} and the deviation "
                f"{deviation:.4g} here, but {scale.mean:.4g} and {scale.deviation:.4g} in the "
                "experiment: is it in another unit here, or elsewhere?"
            )
    return notes


def _measured(column: Column) -> tuple[float, float]:
    known = column.values[~column.missing]
    if not len(known):
        return 0.0, np.inf
    return float(known.mean()), float(known.std())
