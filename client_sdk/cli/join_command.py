"""The command `join`: one client of an experiment, until it ends."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from typing import TYPE_CHECKING

from client_sdk import interrupts
from client_sdk.api import key_file
from client_sdk.api.client import CoordinatorClient
from client_sdk.cli import own_data_join, task_join
from client_sdk.cli.client_memory import beside_key
from client_sdk.cli.consent import require_consent
from client_sdk.cli.joining_client import JoiningClient
from client_sdk.cli.joining_trust import certificate_of, limits_of, read_trust
from client_sdk.data import datasets
from client_sdk.data.dataset import Dataset
from client_sdk.engines.engine import Engine
from client_sdk.engines.in_line import InLine
from client_sdk.engines.processes import Processes
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.errors import UsageError
from client_sdk.results.console import Output
from client_sdk.results.files import require_writable
from client_sdk.results.join_progress import JoinProgress
from client_sdk.task.agreeing import require_no_other
from client_sdk.task.joining import UNDESCRIBED, adapt, description_of
from client_sdk.task.label_counts import label_counts
from client_sdk.task.model_file import is_own_task, read_metadata, spec_of
from client_sdk.task.pictures import picture_task
from client_sdk.trust.offer import read_offer
from serverless_fl.domain.experiment import OWN
from serverless_fl.wire.text import clean
from serverless_fl.wire.views import ExperimentView

if TYPE_CHECKING:
    from serverless_fl.privacy.secure.identity import Identity, Pins


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Be one client of an experiment until it ends."""
    if not arguments.enrol_key:
        raise UsageError("The experiment's enrolment key is missing: set FL_ENROL_KEY.")
    if arguments.wake_url and not arguments.once:
        raise UsageError("--wake-url goes with --once: a client that stays up asks by itself.")
    if arguments.out is not None:
        require_writable(arguments.out)
    trust = read_trust(arguments)
    owner = (arguments.server, arguments.experiment, arguments.name)
    interrupts.explain("Interrupted. The same command goes on where it stopped.")
    with key_file.hold(arguments.key_file, *owner) as key:
        async with CoordinatorClient(
            arguments.server,
            arguments.enrol_key,
            on_retry=console.say,
            certificate=certificate_of(arguments),
        ) as client:
            return await _participate(arguments, console, client, key, trust)


async def _participate(
    arguments: argparse.Namespace,
    console: Output,
    client: CoordinatorClient,
    key: str,
    trust: tuple[Identity | None, Pins | None],
) -> int:
    """Be the client that owns the key."""
    offer = await read_offer(client, arguments.experiment)
    experiment, limits = offer.view, limits_of(arguments)
    require_consent(
        *(arguments, console, offer, limits), beside_key(arguments, experiment, "accepted")
    )
    initial = await client.download_model(
        arguments.experiment, 0, experiment.part_bytes, direct=experiment.direct
    )
    if arguments.out is not None and (arguments.task or experiment.config.data != OWN):
        raise UsageError(
            "--out goes with --data alone: `export --server` fetches the model of this experiment."
        )
    progress = JoinProgress(console.say, experiment.config.rounds)
    joining = JoiningClient(arguments, console, client, key, experiment, initial, progress, *trust)
    if arguments.task is not None:
        return await task_join.participate(joining)
    about = read_metadata(initial)
    if is_own_task(about):
        raise UsageError(
            f"The experiment trains a task of somebody's own, {clean(about['task'], 80)}: give "
            "--task."
        )
    if experiment.config.data == OWN:
        return await own_data_join.participate(joining)
    if arguments.data is not None or arguments.label is not None:
        raise UsageError(
            "The experiment shares out a common data set, so it takes no --data and no --label: "
            "give the whole set with --dataset."
        )
    dataset = _load_data(arguments, console, experiment, initial)
    spec = spec_of(initial)
    task = picture_task(dataset, spec.name, arguments.kernel)
    if spec != task.about.spec:
        raise UsageError(f"The experiment's model does not fit the data of {dataset.name}.")
    require_no_other(task, initial)
    trainer = LocalTrainer(task, dataset.train, _engine(arguments))
    with interrupts.cancelling(), contextlib.closing(trainer):
        trainer.start()
        await asyncio.to_thread(trainer.prepare)
        participant = joining.participant(
            trainer,
            examples=len(dataset.train_y),
            labels=lambda places: label_counts(dataset.train_y[places], dataset.classes),
        )
        done = await joining.take_part(participant)
    return joining.exit_code(done)


def _engine(arguments: argparse.Namespace) -> Engine:
    """For one turn this process will do, as functions may start no others."""
    return InLine() if arguments.once else Processes(arguments.workers or 1)


def _load_data(
    arguments: argparse.Namespace, console: Output, experiment: ExperimentView, initial: bytes
) -> Dataset:
    """This party's data with the experiment's labels and scale. Raises DataError, UsageError."""
    config = experiment.config
    about = description_of(initial)
    dataset = datasets.load(
        arguments.dataset or config.dataset,
        arguments.data_dir,
        like=about.preparation if about else None,
    )
    if dataset.note:
        console.say(dataset.note)
    if about is None:
        console.say(UNDESCRIBED)
    else:
        dataset = adapt(dataset, about, map_classes=arguments.map_classes)
    if len(dataset.train_y) != config.dataset_size:
        raise UsageError(
            f"{dataset.name} has {len(dataset.train_y)} training examples, but the experiment "
            f"shares out {config.dataset_size} of {config.dataset}: give its --dataset."
        )
    return dataset
