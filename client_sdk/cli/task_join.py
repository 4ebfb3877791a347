"""Joins an experiment with a task of the user's own, `--task package.module:name`."""

from __future__ import annotations

import argparse
import contextlib

from client_sdk import interrupts
from client_sdk.cli import own_task
from client_sdk.cli.joining_client import JoiningClient
from client_sdk.data import datasets
from client_sdk.data.data import Data
from client_sdk.engines.in_line import InLine
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.errors import UsageError
from client_sdk.task.agreeing import facts_of, require_same
from serverless_fl.domain.experiment import OWN
from serverless_fl.wire.views import ExperimentView


async def participate(joining: JoiningClient) -> int:
    """Take part until the experiment ends. Raises UsageError, DataError."""
    arguments, experiment = joining.arguments, joining.experiment
    if arguments.share_labels:
        raise UsageError(
            "--share-labels counts the classes of a table or of pictures, and --task knows of no "
            "classes: leave it out."
        )
    is_own = experiment.config.data == OWN
    task, data = own_task.load_task(arguments.task), _load_data(arguments, is_own, experiment)
    task.meet(data)
    require_same(task, joining.initial)
    trainer = LocalTrainer(task, data, InLine())
    with interrupts.cancelling(), contextlib.closing(trainer):
        trainer.start()
        trainer.prepare()
        if is_own:
            participant = joining.participant(trainer, own=range(len(data)), facts=facts_of(task))
        else:
            participant = joining.participant(trainer, examples=len(data))
        done = await joining.take_part(participant)
    return joining.exit_code(done)


def _load_data(arguments: argparse.Namespace, is_own: bool, experiment: ExperimentView) -> Data:
    """All of the common set, or the party's own part. Raises UsageError, DataError."""
    flag, place = ("--data", arguments.data) if is_own else ("--dataset", arguments.dataset)
    if own_task.names_an_object(place):
        data = own_task.load_data(flag, str(place))[0]
    elif is_own:
        raise UsageError("With --task, give your data as --data package.module:name.")
    else:
        name = arguments.dataset or experiment.config.dataset
        data = datasets.load(name, arguments.data_dir).train
    size = experiment.config.dataset_size
    if not is_own and len(data) != size:
        raise UsageError(
            f"There are {len(data)} training examples here, but the experiment shares out {size} "
            f"of {experiment.config.dataset}: give its --dataset."
        )
    return data
