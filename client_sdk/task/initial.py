"""Begins from a given model instead of random weights: checks that it is one of the task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from client_sdk.errors import DataError
from client_sdk.task import weights_file
from client_sdk.task.agreeing import require_form, require_same
from client_sdk.task.joining import description_of
from client_sdk.task.model_file import TABLE, Description, read_file
from client_sdk.task.own_data.table_task import TableTask
from client_sdk.task.pictures import PictureTask
from client_sdk.task.task import Task

Given = str | Path | bytes | Mapping[str, np.ndarray]
"""A model's file, its bytes, or its tensors by name."""


def initial_file(task: Task, given: Given, whose: str = "the initial model") -> bytes:
    """The file of version 0 of an experiment that begins from `given`.

    A file that describes its model stays as it is, byte for byte; its description must be the
    task's. Tensors, and a file without a description, get the task's description. Raises DataError,
    with both sides' words: other tensors, classes, columns, terms.
    """
    if isinstance(given, Mapping):
        data = weights_file.write(given)
    else:
        data = given if isinstance(given, bytes) else read_file(Path(given))
    about = weights_file.read_layout(data, whose).metadata
    if about.keys() & {"task", "model"}:
        _require_described(task, data, about, whose)
        return data
    require_form(task, data, whose)
    return weights_file.write(weights_file.read(data), task.metadata())


def described_pictures(data: bytes | None) -> Description | None:
    """What a model's file says of its pictures; None for other models. Raises DataError."""
    about = {} if data is None else weights_file.read_layout(data).metadata
    return description_of(data) if data is not None and about else None


def described_table(data: bytes | None) -> TableTask | None:
    """The task of a model of tables; None for other models. Raises DataError."""
    if data is None:
        return None
    about = weights_file.read_layout(data).metadata
    return TableTask.read(data) if TABLE in about else None


def _require_described(task: Task, data: bytes, about: Mapping[str, str], whose: str) -> None:
    """Raises DataError."""
    if isinstance(task, PictureTask) and "model" in about and TABLE not in about:
        require_form(task, data, whose)
        found = description_of(data)
        if found is not None and found.classes != task.about.classes:
            raise DataError(
                f"The classes of {whose} are {', '.join(found.classes)}, those of the data are "
                f"{', '.join(task.about.classes)}."
            )
    elif isinstance(task, TableTask) and TABLE in about:
        theirs = TableTask.read(data)
        if (theirs.name, theirs.terms()) != (task.name, task.terms()):
            raise DataError(
                f"The model of {whose} is a {theirs.name} of other columns or classes than the "
                f"{task.name} of the data."
            )
        require_form(task, data, whose)
    else:
        require_same(task, data, whose)
