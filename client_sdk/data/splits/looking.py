"""Makes the `Examples` that splits look at: of pictures, of a table, of any data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from client_sdk.data.data import Arrays, Data
from client_sdk.data.splits.split import Examples
from client_sdk.data.tables.table import Table, as_category

if TYPE_CHECKING:  # it imports PyTorch, for which a simulation of other tasks need not wait
    from client_sdk.data.dataset import Dataset

SITE = "site"  # the column that the split by-column takes unless it is told another
UNKNOWN = "unknown"  # the site of a row that names none


def of_dataset(dataset: Dataset) -> Examples:
    """The training images, and as the column `folder` the site of each, where they have sites."""
    columns = {} if dataset.sites is None else {"folder": dataset.sites}
    # A copy: an engine moves the tensors into shared memory, and frees what a view would show.
    return Examples(len(dataset.train_y), dataset.train_y.numpy().copy(), columns)


def of_table(table: Table) -> Examples:
    """The rows of a table, and its columns as words."""
    label = table.label
    labels = label.values if label is not None and label.kind == "category" else None
    return Examples(len(table), labels, _Words(table))


def of_data(data: Data) -> Examples:
    """Any data set: labels are words or whole numbers in the last column of several."""
    labels = None
    if isinstance(data, Arrays) and len(data.columns) > 1:
        y = np.asarray(data.columns[-1])
        if y.ndim == 1 and y.dtype.kind in "iubUSO":
            labels = np.unique(y, return_inverse=True)[1].astype(np.int64)
    return Examples(len(data), labels)


def of_sites(train: Data, owners: np.ndarray) -> Examples:
    """The data of several sites together; `owners` [N] names the site of each example."""
    return replace(of_data(train), columns={SITE: owners}, of_sites=True)


class _Words(Mapping[str, np.ndarray]):
    """A table's columns as words, each made when somebody asks for it."""

    def __init__(self, table: Table) -> None:
        self._columns = {column.name: column for column in table.columns}

    def __getitem__(self, name: str) -> np.ndarray:
        column = as_category(self._columns[name])
        return np.asarray(np.array([*column.categories, UNKNOWN])[column.values])  # -1: the last

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)
