"""A table as the data of a run: read, described, cut into training and test rows, made numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from client_sdk.data.data import Arrays
from client_sdk.data.seeds import SeededRandom, derive_seed
from client_sdk.data.splits import looking
from client_sdk.data.splits.by_column import ByColumn
from client_sdk.data.splits.split import Examples, Split
from client_sdk.data.tables.preparing import prepare
from client_sdk.data.tables.reading import read_table
from client_sdk.data.tables.schema import describe
from client_sdk.data.tables.table import Table
from client_sdk.data.tables.words import plain, shown
from client_sdk.errors import DataError, UsageError
from client_sdk.task.own_data.table_task import NETWORKS, TableTask

TEST_SHARE = 0.2  # of the rows


@dataclass(frozen=True)
class TableData:
    """The task of a table, its rows as numbers, and what a split may look at."""

    task: TableTask
    table: Table  # the rows to train on
    train: Arrays
    test: Arrays
    examples: Examples
    test_sites: np.ndarray | None = None  # of a split by column: whose each test row is

    @property
    def note(self) -> str:
        """What the reader left out or guessed."""
        return " ".join(self.table.notes)


def parse_kinds(text: str | None) -> dict[str, str]:
    """Read `patient=ignore,icd=category`. Raises UsageError."""
    found = {}
    for word in filter(None, (text or "").split(",")):
        name, equals, kind = word.rpartition("=")
        if not equals or not name.strip():
            raise UsageError(f"--kinds is NAME=KIND,NAME=KIND, not {shown(word)}.")
        found[name.strip()] = kind.strip()
    return found


def load_table(
    path: Path,
    label: str | None,
    kinds: Mapping[str, str],
    model: str,
    split: Split | None,
    seed: int,
    like: TableTask | None = None,
) -> TableData:
    """Read a table and make a task of it. Raises UsageError, DataError.

    A fifth of the rows, drawn by the seed, are the test set. The column of a split by column names
    sites: the model does not learn from it. The scales are those of the rows to train on, or those
    of the task `like` which the initial model describes, with its columns.
    """
    if label is None:
        raise UsageError(f"{path} is a table: say with --label which column is to be learnt.")
    if like is not None and model == "auto":
        model = like.network
    network = next((n for n in NETWORKS if n == ("linear" if model == "auto" else model)), None)
    if network is None:
        known = ", ".join(("auto", *NETWORKS))
        raise UsageError(f"--model of a table is one of {known}, not {shown(model)}.")
    site = plain(split.site_column) if isinstance(split, ByColumn) else None
    kinds = {site: "category", **kinds} if site is not None else kinds
    whole = read_table(path, label, kinds=kinds)
    order = SeededRandom(derive_seed(seed, "test set")).permutation(len(whole))
    cut = max(1, round(len(whole) * TEST_SHARE))
    if cut == len(whole):
        raise DataError(f"{path} has too few rows to train and to test.")
    rows = whole.take(sorted(order[cut:].tolist()))
    learnt = replace(rows, columns=tuple(c for c in rows.columns if c.name != site))
    if not learnt.columns:
        raise DataError(f"{path} has no column to learn from beside the site.")
    schema = describe(learnt) if like is None else like.schema
    train = prepare(learnt, schema)
    held_out = whole.take(sorted(order[:cut].tolist()))
    test = prepare(held_out, schema)
    return TableData(
        TableTask(schema, network),
        learnt,
        Arrays(train.x, train.y),
        Arrays(test.x, test.y),
        looking.of_table(rows),
        None if site is None else looking.of_table(held_out).columns[site],
    )
