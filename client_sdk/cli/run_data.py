"""What a run trains and on what: a set of pictures, or a user's own task and data."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from client_sdk.cli import own_task
from client_sdk.data import datasets
from client_sdk.data.data import Data
from client_sdk.data.preparation import parse_size
from client_sdk.data.splits import looking
from client_sdk.data.splits.split import Examples
from client_sdk.errors import UsageError
from client_sdk.recipes.simulate import hold_out_test
from client_sdk.task.pictures import picture_task
from client_sdk.task.task import Task


@dataclass(frozen=True)
class RunData:
    """The task and the data of a run; `examples` are what a split may look at."""

    task: Task
    name: str
    note: str
    train: Data
    test: Data
    examples: Examples


def load(arguments: argparse.Namespace) -> RunData:
    """The data of --dataset, and the task of --task, else --model. Raises UsageError, DataError."""
    if own_task.names_an_object(arguments.dataset):
        if arguments.task is None:
            raise UsageError(f"--dataset {arguments.dataset} is for a --task of your own.")
        task = own_task.load_task(arguments.task)
        train, test = own_task.load_data("--dataset", arguments.dataset)
        if test is None:
            train, test = hold_out_test(train, arguments.settings.nested().get("seed", 0))
        task.meet(train)
        name = arguments.dataset.rpartition(":")[2]
        return RunData(task, name, "", train, test, own_task.examples_of(train))
    size = parse_size(arguments.image_size) if arguments.image_size else None
    dataset = datasets.load(arguments.dataset, arguments.data_dir, size=size, fit=arguments.fit)
    if arguments.task is None:
        made: Task = picture_task(dataset, arguments.model, arguments.kernel)
    else:
        made = own_task.load_task(arguments.task)
        made.meet(dataset.train)
    return RunData(
        *(made, dataset.name, dataset.note, dataset.train, dataset.test),
        looking.of_dataset(dataset),
    )
