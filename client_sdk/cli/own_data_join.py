"""Joins an experiment as a party with data of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from client_sdk import interrupts
from client_sdk.cli.joining_client import JoiningClient
from client_sdk.data.data import Data
from client_sdk.engines.engine import Engine
from client_sdk.engines.in_line import InLine
from client_sdk.engines.later_trainer import LaterTrainer
from client_sdk.engines.processes import Processes
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.errors import UsageError
from client_sdk.participant import Participant
from client_sdk.results.console import Output
from client_sdk.results.files import write_output
from client_sdk.task import weights_file
from client_sdk.task.own_data.reading import Source, read_site
from client_sdk.task.own_data.site import Site
from client_sdk.task.pictures import PictureTask
from client_sdk.task.task import Task
from serverless_fl.domain.experiment import FEDERATED


async def participate(joining: JoiningClient) -> int:
    """Take part until the experiment ends. Raises UsageError, DataError."""
    arguments, console = joining.arguments, joining.console
    if arguments.data is None:
        raise UsageError(
            "The parties of this experiment bring data of their own: give yours with --data."
        )
    source = Source(
        path=arguments.data,
        label=arguments.label,
        map_classes=arguments.map_classes,
        kernel=arguments.kernel,
    )
    federated = joining.experiment.config.normalisation == FEDERATED
    site = await asyncio.to_thread(read_site, source, joining.initial, federated=federated)
    for note in site.notes:
        console.say(note)
    declared = site.declaration()
    counts = site.label_counts() if arguments.share_labels else {}
    trainer = LaterTrainer(lambda: _trainer(participant, site, federated, arguments, console))
    participant = joining.participant(
        trainer,
        own=range(declared.examples),
        facts=declared.facts,
        sums=declared.sums,
        labels=lambda _: counts,
    )
    with interrupts.cancelling(), contextlib.closing(trainer):
        done = await joining.take_part(participant)
        if arguments.out is not None and done is not None and done.model_version is not None:
            model = await participant.model(done.model_version)
            task, _, _ = await _ready(participant, site, federated)
            write_model(arguments.out, task, model)
            console.say(f"model {done.model_version} is in {arguments.out}")
    return joining.exit_code(done)


def write_model(path: Path, task: Task, model: bytes) -> None:
    """Write a model's file with the task's description, which has the scales."""
    write_output(path, weights_file.write(weights_file.read(model), task.metadata()))


async def _ready(
    participant: Participant, site: Site, federated: bool
) -> tuple[Task, Data, Sequence[str]]:
    """The task, the prepared data and notes, with the scales that the experiment fixed."""
    scales = (await participant.agreement()).scales if federated else []
    return await asyncio.to_thread(site.ready, scales)


async def _trainer(
    participant: Participant,
    site: Site,
    federated: bool,
    arguments: argparse.Namespace,
    console: Output,
) -> LocalTrainer:
    task, data, notes = await _ready(participant, site, federated)
    for note in notes:
        console.say(note)
    # Tables train in less time than a process takes to start, and functions may start none.
    is_large = isinstance(task, PictureTask) and not arguments.once
    engine: Engine = Processes(arguments.workers or 1) if is_large else InLine()
    return LocalTrainer(task, data, engine)
