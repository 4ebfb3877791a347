"""The task and the data of a run: a set of pictures, a table, or a user's own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client_sdk.cli import own_task, run_table
from client_sdk.data import datasets
from client_sdk.data.data import Data, as_data
from client_sdk.data.preparation import parse_size
from client_sdk.data.splits import looking
from client_sdk.data.splits.drawing import split_of
from client_sdk.data.splits.split import Examples
from client_sdk.data.tables.reading import is_table
from client_sdk.errors import UsageError
from client_sdk.recipes.sharing import hold_out_test, is_of_sites, of_sites
from client_sdk.task.initial import described_pictures, described_table
from client_sdk.task.joining import scaled_like
from client_sdk.task.label_counts import label_counts
from client_sdk.task.pictures import picture_task
from client_sdk.task.task import Task


@dataclass(frozen=True)
class RunData:
    """The task and the data of a run; `examples` are what a split may look at.

    `classes` are the names of the labels, where they have names.
    """

    task: Task
    name: str
    note: str
    train: Data
    test: Data
    examples: Examples
    classes: tuple[str, ...] = ()
    test_sites: np.ndarray | None = None  # whose each test example is, where sites have names

    def label_counts(self, places: Sequence[int]) -> dict[str, int]:
        """How many of the training examples at these places have each class. Raises DataError."""
        labels = self.examples.labels
        if labels is None:
            return label_counts((), None)
        names = self.classes or tuple(map(str, range(int(labels.max(initial=0)) + 1)))
        return label_counts(labels[list(places)], names)


def load(arguments: argparse.Namespace, initial: bytes | None = None) -> RunData:
    """The data of --dataset, and the task of --task, else --model. Raises UsageError, DataError.

    With the file of an `initial` model, pictures and tables get its scales.
    """
    if own_task.names_an_object(arguments.dataset):
        if arguments.task is None:
            raise UsageError(f"--dataset {arguments.dataset} is for a --task of your own.")
        return _of_own_code(arguments)
    path = Path(arguments.dataset)
    if arguments.label is not None or (is_table(path) and path.suffix.lower() != ".npz"):
        return _of_table(arguments, path, initial)
    size = parse_size(arguments.image_size) if arguments.image_size else None
    about = described_pictures(initial) if arguments.task is None else None
    dataset = datasets.load(
        arguments.dataset,
        arguments.data_dir,
        size=size,
        fit=arguments.fit,
        like=about.preparation if about else None,
    )
    if arguments.task is None:
        model = arguments.model
        if about is not None:
            dataset = scaled_like(dataset, about)
            model = about.spec.name if model == "auto" else model
        made: Task = picture_task(dataset, model, arguments.kernel)
    else:
        made = own_task.load_task(arguments.task)
        made.meet(dataset.train)
    return RunData(
        *(made, dataset.name, dataset.note, dataset.train, dataset.test),
        looking.of_dataset(dataset),
        dataset.classes,
        dataset.test_sites,
    )


def _of_own_code(arguments: argparse.Namespace) -> RunData:
    """The task and the data that a user's own code gives; of sites, where it gives a dict."""
    task = own_task.load_task(arguments.task)
    train, test = own_task.load_pair("--dataset", arguments.dataset)
    seed = arguments.settings.nested().get("seed", 0)
    name = arguments.dataset.rpartition(":")[2]
    if is_of_sites(train):
        shared = of_sites(train, test, seed)
        assert shared.drawn is not None  # noqa: S101  (sites are drawn)
        task.meet(shared.train)
        sites = np.repeat(shared.drawn.names, [len(part) for part in shared.drawn.parts])
        examples = looking.of_sites(shared.train, sites)
        return RunData(
            *(task, name, "", shared.train, shared.test, examples), test_sites=shared.test_sites
        )
    data = as_data(train)
    data, held_out = hold_out_test(data, seed) if test is None else (data, as_data(test))
    task.meet(data)
    return RunData(task, name, "", data, held_out, looking.of_data(data))


def _of_table(arguments: argparse.Namespace, path: Path, initial: bytes | None) -> RunData:
    """The rows of a table, and a task of tables unless there is a --task."""
    given = arguments.settings.nested()
    found = run_table.load_table(
        path,
        arguments.label,
        run_table.parse_kinds(arguments.kinds),
        arguments.model,
        split_of(given.get("split", "equal")),
        given.get("seed", 0),
        described_table(initial) if arguments.task is None else None,
    )
    task: Task = found.task
    if arguments.task is not None:
        task = own_task.load_task(arguments.task)
        task.meet(found.train)
    return RunData(
        *(task, found.table.name, found.note, found.train, found.test, found.examples),
        found.task.schema.classes or (),
        found.test_sites,
    )
