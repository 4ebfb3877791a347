"""The command `run`: an experiment with all of its clients on this machine."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import torch

from client_sdk import exits, interrupts
from client_sdk.api.client import CoordinatorClient
from client_sdk.cli import config_file, settings
from client_sdk.cli.join_command import enter
from client_sdk.data import datasets
from client_sdk.data.preparation import parse_size
from client_sdk.engines.processes import TrainingPool
from client_sdk.results import cost, progress, report, run_folder, trackers
from client_sdk.results.conclusion import conclude
from client_sdk.results.console import Output
from client_sdk.results.trackers import Tracking
from client_sdk.simulation.embedded import EmbeddedCoordinator
from client_sdk.simulation.simulate import Row, Simulation
from client_sdk.task import evaluation, models
from serverless_fl.domain.experiment import ExperimentState
from serverless_fl.domain.stopping import out_of_reach
from serverless_fl.wire.schema import ExperimentConfig


async def simulate(arguments: argparse.Namespace, console: Output) -> int:
    """Create an experiment, run all its clients here, and write a report."""
    started = time.monotonic()
    if arguments.server and not arguments.admin_key:
        raise exits.UsageError("--server needs the coordinator's admin key: set FL_ADMIN_KEY.")
    torch.set_num_threads(1)  # the workers have the cores
    for name in arguments.track:
        trackers.require(name)
    dataset = _own_data(arguments)
    spec = models.spec_for(arguments.model, dataset.shape, len(dataset.classes))
    config = settings.effective(
        arguments.settings,
        dataset=dataset.name,
        dataset_size=len(dataset.train_y),
        model=spec.name,
    )
    prices = _prices()
    out, saved = run_folder.choose(arguments.out, arguments.resume)
    arguments.out = out
    interrupts.explain(f"Interrupted. {_resume(out)} goes on where it stopped.")
    async with AsyncExitStack() as stack:
        stack.enter_context(run_folder.held(out))
        stack.enter_context(interrupts.cancelling())
        view = progress.choose(console, config.rounds)
        for line in _introduction(dataset, spec, config):
            view.say(line)
        pool = TrainingPool(dataset, spec, arguments.workers, arguments.kernel)
        stack.push(pool.__exit__)
        if not arguments.server:  # a distant coordinator may refuse the key: it is asked first
            pool.start()  # its processes import PyTorch while the coordinator starts
        client = await _reach(stack, arguments, out / "coordinator", saved, view.say)
        tracked = stack.enter_context(Tracking(arguments.track, out, view.say))

        def show_row(row: Row) -> None:
            view.watchers.on_row(row)
            tracked.row(row)

        simulation = Simulation(
            client,
            dataset,
            spec,
            config,
            pool,
            secret=saved.secret,
            name=arguments.name,
            watchers=replace(view.watchers, on_row=show_row),
        )
        await simulation.create()
        config_file.write(out, config, arguments, dataset.name)
        await enter(pool)
        if arguments.resume:
            await simulation.resume()
        tracked.begin(simulation.experiment_id, config.model_dump(mode="json"))
        url = client.connection.base_url
        view.say(
            f"experiment {simulation.experiment_id} at {url} (API docs: {url}/docs); "
            f"{pool.workers} training processes, {pool.loop}; results in {out}"
        )
        with view:
            outcome = await simulation.run()
        classes = None
        if outcome.rows:
            classes = await asyncio.to_thread(evaluation.by_class, outcome.weights, spec, dataset)
        result = report.build_report(
            outcome,
            dataset=dataset.name,
            note=dataset.note,
            parameters=spec.weights(),
            wall_seconds=time.monotonic() - started,
            classes=classes,
            cost=cost.estimate(client.traffic, prices, outcome.experiment.cost),
            loop=pool.loop,
        )
        files = report.write(out, result, outcome, classes)
        tracked.end(result, files)
    conclude(console, result, outcome.rows, classes, files)
    if outcome.experiment.state is ExperimentState.PAUSED:
        console.say(exits.PAUSED_TEXT.format(reason=outcome.experiment.reason, out=out))
    if arguments.json:
        print(json.dumps(result, indent=2))
    return exits.of_end(outcome.experiment.state, ignored=bool(result["always_refused"]))


def _own_data(arguments: argparse.Namespace) -> datasets.Dataset:
    """The data that the arguments name. Raises DataError."""
    size = parse_size(arguments.image_size) if arguments.image_size else None
    return datasets.load(arguments.dataset, arguments.data_dir, size=size, fit=arguments.fit)


async def _reach(
    stack: AsyncExitStack,
    arguments: argparse.Namespace,
    folder: Path,
    saved: run_folder.Secrets,
    say: Callable[[str], None],
) -> CoordinatorClient:
    """The coordinator at --server, or one of our own with its state in `folder`."""
    url, key = arguments.server, arguments.admin_key
    if not url:
        own = EmbeddedCoordinator(folder, saved.admin_key, on_restart=say)
        await stack.enter_async_context(own)
        url, key = own.url, own.admin_key
    return await stack.enter_async_context(CoordinatorClient(url, key, on_retry=say))


def _resume(out: Path) -> str:
    return f"The same command with --resume --out {shlex.quote(str(out))}"


def _introduction(
    dataset: datasets.Dataset, spec: models.ModelSpec, config: ExperimentConfig
) -> Iterator[str]:
    """The lines printed before anything starts."""
    if dataset.note:
        yield dataset.note
    yield (
        f"{dataset.name}: {config.dataset_size} training examples for {config.clients} clients, "
        f"{len(dataset.test_y)} for the test; {spec.name} with {spec.weights()} weights"
    )
    if warning := out_of_reach(config.to_config()):
        yield f"warning: {warning}"


def _prices() -> cost.Prices:
    """The table of prices that the embedded coordinator uses, too. Raises UsageError."""
    table = os.environ.get("FL_PRICES")
    try:
        return cost.Prices.load(Path(table) if table else None)
    except cost.BadPrices as error:
        raise exits.UsageError(str(error)) from error
