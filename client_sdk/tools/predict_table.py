"""Predicts the label of each row of a table, with the file of a global model and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client_sdk.data.tables import preparing
from client_sdk.data.tables.reading import read_table
from client_sdk.errors import DataError
from client_sdk.task import weights_file
from client_sdk.task.model_file import TABLE, is_own_task, read_file, read_metadata
from client_sdk.task.own_data.table_task import TableTask
from serverless_fl.wire.text import clean


@dataclass(frozen=True)
class RowPrediction:
    """The answer for one row, counted from 1 below the heading: a class, or a number.

    `probability` is None for a number.
    """

    path: Path
    row: int
    answer: str | float
    probability: float | None


def is_of_tables(model: Path) -> bool:
    """Whether a model's file says that it was trained on tables. Raises DataError."""
    return TABLE in read_metadata(read_file(model))


def task_of_somebody(model: Path) -> str | None:
    """The name of the task in a model's file that only its author's code reads. Raises DataError.

    None for pictures and tables.
    """
    about = read_metadata(read_file(model))
    return clean(about["task"], 80) if is_own_task(about) else None


def predict_table(path: Path, model: Path) -> list[RowPrediction]:
    """Predict each row; the table needs no label. Raises DataError."""
    data = read_file(model)
    task = TableTask.read(data)
    schema = task.schema
    if any(column.scale is None for column in schema.columns if column.kind != "category"):
        raise DataError(
            f"{model} lacks the means and deviations that the parties agreed on: take a model of a "
            "later round, or the file that join --out wrote."
        )
    prepared = preparing.prepare(read_table(path, like=schema), schema)
    found = task.outputs(weights_file.read(data), prepared.x)
    if schema.classes is None:
        scale = schema.label_scale
        mean, deviation = (scale.mean, scale.deviation) if scale else (0.0, 1.0)
        return [
            RowPrediction(path, row + 1, mean + deviation * value, None)
            for row, value in enumerate(found[:, 0].tolist())
        ]
    best = found.argmax(1)
    return [
        RowPrediction(path, row + 1, schema.classes[place], float(found[row, place]))
        for row, place in enumerate(best.tolist())
    ]
