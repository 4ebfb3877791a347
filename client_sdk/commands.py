"""What the CLI's commands that take part in experiments do."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path

import torch

from app.domain.experiment import Config, ExperimentState
from app.domain.stopping import out_of_reach
from app.wire.schema import ExperimentConfig
from client_sdk import (
    cost,
    datasets,
    evaluation,
    exits,
    interrupts,
    joining,
    key_file,
    models,
    progress,
    report,
    run_folder,
    tracking,
)
from client_sdk.client import CoordinatorClient
from client_sdk.conclusion import conclude
from client_sdk.console import Output, sign
from client_sdk.embedded import EmbeddedCoordinator
from client_sdk.narration import Narration
from client_sdk.native import Unavailable
from client_sdk.participant import Participant
from client_sdk.preparation import parse_size
from client_sdk.simulate import Row, Simulation
from client_sdk.tracking import Tracking
from client_sdk.verify import Finding
from client_sdk.verify import verify as check
from client_sdk.workers import TrainingPool

_SMALL_SHARD = 200  # examples; below, batches of 50 would leave an epoch a step or two


async def simulate(arguments: argparse.Namespace, console: Output) -> int:
    """Create an experiment, run all its clients here, leave a report behind."""
    started = time.monotonic()
    if arguments.server and not arguments.admin_key:
        raise exits.UsageError("--server needs the coordinator's admin key: set FL_ADMIN_KEY.")
    torch.set_num_threads(1)  # the workers have the cores
    for name in arguments.track:
        tracking.require(name)
    dataset = _own_data(arguments)
    spec = models.spec_for(arguments.model, dataset.shape, len(dataset.classes))
    config = _config(arguments, dataset, spec)
    prices = _prices()
    out, saved = run_folder.choose(arguments.out, arguments.resume)
    arguments.out = out
    interrupts.explain(f"Interrupted. {_resume(out)} goes on where it stopped.")
    parameters = sum(p.numel() for p in models.build(spec).parameters())
    async with AsyncExitStack() as stack:
        stack.enter_context(run_folder.held(out))
        stack.enter_context(interrupts.cancelling())
        view = progress.choose(console, config.rounds)
        for line in _introduction(dataset, spec, config):
            view.say(line)
        pool = TrainingPool(dataset, spec, arguments.workers, arguments.kernel)
        stack.push(pool.__exit__)
        pool.start()  # its processes import PyTorch while the coordinator starts
        client = await _reach(stack, arguments, out / "coordinator", saved, view.say)
        tracked = stack.enter_context(Tracking(arguments.track, out, view.say))

        def tell(row: Row) -> None:
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
            watchers=replace(view.watchers, on_row=tell),
        )
        await simulation.create()
        await _prepare(pool)
        if arguments.resume:
            await simulation.resume()
        tracked.begin(simulation.experiment_id, config.model_dump(mode="json"))
        url = client.base_url
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
            parameters=parameters,
            wall_seconds=time.monotonic() - started,
            classes=classes,
            cost=cost.estimate(client.traffic, prices, outcome.experiment.cost),
            loop=pool.loop,
        )
        files = report.write(out, result, outcome, classes)
        tracked.end(result, files)
    conclude(console, result, outcome.rows, classes, files)
    if outcome.experiment.state is ExperimentState.PAUSED:
        told = exits.PAUSED_TEXT.format(reason=outcome.experiment.reason, out=out)
        console.say(told)
    if arguments.json:
        print(json.dumps(result, indent=2))
    return exits.of_end(outcome.experiment.state, ignored=bool(result["always_refused"]))


def _own_data(arguments: argparse.Namespace) -> datasets.Dataset:
    """What the run is to be about. Raises DataError."""
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


async def _prepare(pool: TrainingPool) -> None:
    """Enter the training processes. Raises UsageError."""
    try:
        # In a thread: a compiler may take a second, and a coordinator may be answering here.
        await asyncio.to_thread(pool.__enter__)
    except Unavailable as reason:
        raise exits.UsageError(f"--kernel native cannot be had here: {reason}.") from reason


def _resume(out: Path) -> str:
    return f"The same command with --resume --out {shlex.quote(str(out))}"


def _config(
    arguments: argparse.Namespace, dataset: datasets.Dataset, spec: models.ModelSpec
) -> ExperimentConfig:
    """The experiment's settings, checked here already. Raises ValidationError, InvalidConfig."""
    size = len(dataset.train_y)
    shard = size // max(arguments.clients, 1)
    per_round, batch = arguments.clients_per_round, arguments.batch_size
    config = ExperimentConfig(
        dataset=dataset.name,
        dataset_size=size,
        model=spec.name,
        clients=arguments.clients,
        clients_per_round=min(10, arguments.clients) if per_round is None else per_round,
        min_clients=arguments.min_clients,
        rounds=arguments.rounds,
        local_epochs=arguments.local_epochs,
        batch_size=(10 if shard < _SMALL_SHARD else 50) if batch is None else batch,
        learning_rate=arguments.learning_rate,
        momentum=arguments.momentum,
        weight_decay=arguments.weight_decay,
        learning_rate_factor=arguments.learning_rate_factor,
        seed=arguments.seed,
        deadline_seconds=arguments.deadline,
        quorum=arguments.quorum,
        max_attempts=arguments.max_attempts,
        target_accuracy=arguments.target_accuracy,
        patience=arguments.patience,
        max_update_norm=arguments.max_update_norm,
        norm_action=arguments.norm_action,
        keep_updates=arguments.keep_updates,
        keep_models=arguments.keep_models,
        budget_usd=arguments.budget_usd,
        update_encoding=arguments.update_encoding,
        download_encoding=arguments.download_encoding,
    )
    Config(**config.model_dump())
    return config


def _introduction(
    dataset: datasets.Dataset, spec: models.ModelSpec, config: ExperimentConfig
) -> Iterator[str]:
    """What is said before anything starts."""
    if dataset.note:
        yield dataset.note
    yield (
        f"{dataset.name}: {config.dataset_size} training examples for {config.clients} clients, "
        f"{len(dataset.test_y)} for the test; {spec.name} with {spec.weights()} weights"
    )
    if warning := out_of_reach(Config(**config.model_dump())):
        yield f"warning: {warning}"


def _prices() -> cost.Prices:
    """The table that the embedded coordinator takes, too. Raises UsageError."""
    table = os.environ.get("FL_PRICES")
    try:
        return cost.Prices.load(Path(table) if table else None)
    except cost.BadPrices as error:
        raise exits.UsageError(str(error)) from error


async def join(arguments: argparse.Namespace, console: Output) -> int:
    """Be one client of an experiment until it ends."""
    if not arguments.enrol_key:
        raise exits.UsageError("The experiment's enrolment key is missing: set FL_ENROL_KEY.")
    file, whose = arguments.key_file, (arguments.server, arguments.experiment, arguments.name)
    interrupts.explain("Interrupted. The same command goes on where it stopped.")
    with key_file.hold(file, *whose) as key:
        return await _join(arguments, console, key)


async def _join(arguments: argparse.Namespace, console: Output, key: str) -> int:
    """Be the client whose key it is."""
    client = CoordinatorClient(arguments.server, arguments.enrol_key, on_retry=console.say)
    async with client:
        experiment = await client.experiment(arguments.experiment)
        config = experiment.config
        initial = await client.download_model(
            arguments.experiment, 0, experiment.part_bytes, direct=experiment.direct
        )
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
        spec = models.spec_of(initial)
        if spec != models.spec_for(spec.name, dataset.shape, len(dataset.classes)):
            raise exits.UsageError(
                f"The experiment's model does not fit the data of {dataset.name}."
            )

        narration = Narration(console.say, config.rounds)
        arguments.workers = arguments.workers or 1
        pool = TrainingPool(dataset, spec, arguments.workers, arguments.kernel)
        with interrupts.cancelling(), contextlib.ExitStack() as stack:
            stack.push(pool.__exit__)
            pool.start()
            await _prepare(pool)
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


async def verify(arguments: argparse.Namespace, console: Output) -> int:
    """Check an experiment's records; print what was found in each model version."""
    if not arguments.admin_key:
        raise exits.UsageError("verify needs the coordinator's admin key: set FL_ADMIN_KEY.")

    marks: dict[bool | None, str] = {
        True: sign(console, "✓", "ok:"),
        False: sign(console, "✗", "WRONG:"),
        None: sign(console, "·", "-"),
    }

    def tell(finding: Finding) -> None:
        console.say(f"{marks[finding.good]} model {finding.version}: {finding.message}")

    say, key = console.say, arguments.admin_key
    async with CoordinatorClient(arguments.server, key, on_retry=say) as client:
        findings = await check(client, arguments.experiment, arguments.rounds, tell)
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    asked = set(arguments.rounds or ())
    unknown = asked - {finding.version for finding in findings}
    if unknown:
        raise exits.UsageError(f"There is no model of round {min(unknown)}.")
    bad = sum(finding.good is False for finding in findings)
    if bad:
        console.say(f"{bad} faults")
        return exits.DIFFERS
    console.say("Everything that could be looked at is as recorded.")
    gone = asked & {finding.version for finding in findings if finding.good is None}
    if gone:
        console.say(
            f"The updates of round {min(gone)} are no longer kept, so that its model cannot be "
            "recomputed (--keep-updates of the experiment says how many rounds are)."
        )
        return exits.NOT_KEPT
    return 0
