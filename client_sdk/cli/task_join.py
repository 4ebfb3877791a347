"""Joins an experiment with a task of the user's own, `--task package.module:name`."""

from __future__ import annotations

import argparse
import contextlib

from client_sdk import exit_codes, interrupts
from client_sdk.api.client import CoordinatorClient
from client_sdk.cli import own_task
from client_sdk.cli.client_memory import memory_of
from client_sdk.data import datasets
from client_sdk.data.data import Data
from client_sdk.engines.in_line import InLine
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.errors import UsageError
from client_sdk.participant import Participant
from client_sdk.results.console import Output
from client_sdk.results.join_progress import JoinProgress
from client_sdk.task.agreeing import facts_of, require_same
from serverless_fl.domain.experiment import OWN
from serverless_fl.wire.views import ExperimentView


async def participate(
    arguments: argparse.Namespace,
    console: Output,
    client: CoordinatorClient,
    key: str,
    experiment: ExperimentView,
    initial: bytes,
) -> int:
    """Be the client that owns the key, until the experiment ends. Raises UsageError, DataError."""
    is_own = experiment.config.data == OWN
    task, data = own_task.load_task(arguments.task), _load_data(arguments, is_own, experiment)
    task.meet(data)
    require_same(task, initial)
    progress = JoinProgress(console.say, experiment.config.rounds)
    trainer = LocalTrainer(task, data, InLine())
    with interrupts.cancelling(), contextlib.closing(trainer):
        trainer.start()
        trainer.prepare()
        participant = Participant(
            client,
            arguments.experiment,
            key,
            trainer,
            name=arguments.name,
            on_event=progress,
            held=initial,
            examples=None if is_own else len(data),
            own=range(len(data)) if is_own else None,
            facts=facts_of(task) if is_own else None,
            memory=memory_of(arguments, experiment),
        )
        await participant.enrol(arguments.enrol_key)
        done = await participant.run()
    if progress.ignored:
        console.say(progress.ignored)
    return exit_codes.of_end(done.state, ignored=bool(progress.ignored))


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
