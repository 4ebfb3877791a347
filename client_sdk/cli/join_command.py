"""The command `join`: one client of an experiment, until it ends."""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from client_sdk import exits, interrupts
from client_sdk.api import key_file
from client_sdk.api.client import CoordinatorClient
from client_sdk.data import datasets
from client_sdk.data.datasets import Dataset
from client_sdk.engines.processes import TrainingPool
from client_sdk.participant import Participant
from client_sdk.results.console import Output
from client_sdk.results.narration import Narration
from client_sdk.task import joining, models
from client_sdk.task.compiled.native import Unavailable
from serverless_fl.wire.views import ExperimentView


async def join(arguments: argparse.Namespace, console: Output) -> int:
    """Be one client of an experiment until it ends."""
    if not arguments.enrol_key:
        raise exits.UsageError("The experiment's enrolment key is missing: set FL_ENROL_KEY.")
    owner = (arguments.server, arguments.experiment, arguments.name)
    interrupts.explain("Interrupted. The same command goes on where it stopped.")
    with key_file.hold(arguments.key_file, *owner) as key:
        async with CoordinatorClient(
            arguments.server, arguments.enrol_key, on_retry=console.say
        ) as client:
            return await _participate(arguments, console, client, key)


async def _participate(
    arguments: argparse.Namespace, console: Output, client: CoordinatorClient, key: str
) -> int:
    """Be the client that owns the key."""
    experiment = await client.experiment(arguments.experiment)
    initial = await client.download_model(
        arguments.experiment, 0, experiment.part_bytes, direct=experiment.direct
    )
    dataset = _own_data(arguments, console, experiment, initial)
    spec = models.spec_of(initial)
    if spec != models.spec_for(spec.name, dataset.shape, len(dataset.classes)):
        raise exits.UsageError(f"The experiment's model does not fit the data of {dataset.name}.")
    narration = Narration(console.say, experiment.config.rounds)
    pool = TrainingPool(dataset, spec, arguments.workers or 1, arguments.kernel)
    with interrupts.cancelling(), contextlib.ExitStack() as stack:
        stack.push(pool.__exit__)
        await enter(pool)
        participant = Participant(
            client,
            arguments.experiment,
            key,
            pool,
            name=arguments.name,
            on_event=narration,
            held=initial,
            examples=len(dataset.train_y),
        )
        await participant.enrol(arguments.enrol_key)
        done = await participant.run()
    if narration.ignored:
        console.say(narration.ignored)
    return exits.of_end(done.state, ignored=bool(narration.ignored))


def _own_data(
    arguments: argparse.Namespace, console: Output, experiment: ExperimentView, initial: bytes
) -> Dataset:
    """This party's data with the experiment's labels and scale. Raises DataError, UsageError."""
    config = experiment.config
    about = joining.description_of(initial)
    dataset = datasets.load(
        arguments.dataset or config.dataset,
        arguments.data_dir,
        like=about.preparation if about else None,
    )
    if dataset.note:
        console.say(dataset.note)
    if about is None:
        console.say(joining.NOT_SAID)
    else:
        dataset = joining.as_the_experiment(dataset, about, map_classes=arguments.map_classes)
    if len(dataset.train_y) != config.dataset_size:
        raise exits.UsageError(
            f"{dataset.name} has {len(dataset.train_y)} training examples, but the experiment "
            f"shares out {config.dataset_size} of {config.dataset}: give its --dataset."
        )
    return dataset


async def enter(pool: TrainingPool) -> None:
    """Wait for the training processes. Raises UsageError where the kernel cannot be had."""
    pool.start()
    try:
        # In a thread: compiling may take a second, and the event loop has connections to serve.
        await asyncio.to_thread(pool.__enter__)
    except Unavailable as reason:
        raise exits.UsageError(f"--kernel native cannot be had here: {reason}.") from reason
