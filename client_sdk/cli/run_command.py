"""The command `run`: an experiment with all of its clients on this machine."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from client_sdk import exit_codes, hints, interrupts
from client_sdk.api.client import CoordinatorClient
from client_sdk.cli import beginning, config_file, run_data, serving
from client_sdk.cli.beginning import Beginning
from client_sdk.cli.run_data import RunData
from client_sdk.cli.run_settings import RunSettings, draw_split, experiment_of, settle
from client_sdk.data.data import Arrays
from client_sdk.data.splits.drawing import Drawn
from client_sdk.data.splits.equal import Equal
from client_sdk.engines.batched import MOST_AT_ONCE, Batched, reason_against
from client_sdk.engines.engine import Engine
from client_sdk.engines.on_ray import Ray
from client_sdk.engines.processes import Processes, usable_cores
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.errors import UsageError
from client_sdk.results import cost, progress, report, run_folder, trackers
from client_sdk.results.by_site import BySite, by_site, by_test_site
from client_sdk.results.console import Output
from client_sdk.results.run_folder import RunFolder
from client_sdk.results.summary import print_summary
from client_sdk.results.trackers import Tracking
from client_sdk.simulation.embedded import EmbeddedHelper
from client_sdk.simulation.outcome import Outcome, Row
from client_sdk.simulation.simulate import Simulation
from client_sdk.task import weights_file
from client_sdk.task.evaluation import Classes, by_class, count
from client_sdk.task.initial import initial_file
from client_sdk.task.own_data.table_task import TableTask
from client_sdk.task.pictures import PictureTask
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import Task, form_of
from serverless_fl.domain.experiment import HELPER, ExperimentState
from serverless_fl.domain.records import client_id
from serverless_fl.domain.stopping import out_of_reach
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.settings import values_of

SMALL_WEIGHTS = 5_000_000  # a larger network keeps a GPU busy with one client


@dataclass(frozen=True)
class _Plan:
    """What the arguments ask for, checked before anything starts."""

    data: RunData
    settings: RunSettings
    drawn: Drawn | None  # None: the coordinator shares the examples out equally
    config: ExperimentConfig
    prices: cost.Prices
    initial: bytes | None = None  # None: random weights
    begun: Beginning | None = None
    own_helper: bool = False  # the run starts the helper of its secure aggregation


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Create an experiment, run all its clients here, and write a report."""
    started = time.monotonic()
    torch.set_num_threads(1)  # the workers have the cores
    _require_usable(arguments)
    earlier = run_folder.resume(arguments.out) if arguments.resume else None
    begun = beginning.kept(earlier.path) if earlier else None
    begun = begun or await beginning.asked_for(arguments, console.say)
    plan = _make_plan(arguments, begun)
    folder = earlier or run_folder.new(arguments.out)
    arguments.out = folder.path  # where the traceback of an unexpected error goes, too
    again = f"The same command with {hints.quoted('--resume', '--out', str(folder.path))}"
    interrupts.explain(f"Interrupted. {again} goes on where it stopped.")
    async with AsyncExitStack() as stack:
        stack.enter_context(folder.locked())
        stack.enter_context(interrupts.cancelling())
        if begun is not None:
            begun.save(folder.path)
        view = progress.choose(console, plan.config.rounds)
        for line in _introduction(plan):
            view.say(line)
        trainer = _make_trainer(stack, arguments, plan)
        helper = None
        if plan.own_helper:
            helper = await serving.start_helper(stack, folder, view.say)
            plan = await _with_helper(plan, helper, view)
        client = await _connect(stack, arguments, folder, view, helper)
        tracking = stack.enter_context(Tracking(arguments.track, folder.path, view.say))
        simulation = await _create(arguments, plan, folder, client, trainer, view, tracking)
        with view:
            outcome = await simulation.run()
        classes = await _measure_classes(plan, outcome)
        data, owners = plan.data, plan.data.test_sites if plan.drawn is not None else None
        tested = await asyncio.to_thread(
            by_test_site, data.task, outcome.weights, data.test, owners
        )
        result = report.build_report(
            outcome,
            dataset=plan.data.name,
            note=plan.data.note,
            parameters=_weights(plan.data.task),
            wall_seconds=time.monotonic() - started,
            classes=classes,
            cost=cost.estimate(client.traffic, plan.prices, outcome.experiment.cost),
            loop=_words(trainer),
            sites=_by_site(plan, outcome),
            test_sites=tested,
        )
        files = report.write(folder.path, result, outcome, classes)
        tracking.end(result, files)
        print_summary(console, result, outcome.rows, classes, files)
        state = outcome.experiment.state
        if state is ExperimentState.PAUSED:
            console.say(
                f"Paused: {outcome.experiment.reason} Nothing is lost. {again} goes on; where the "
                "budget is reached, with a higher --budget-usd or --budget-epsilon."
            )
        if arguments.json:
            print(json.dumps(result, indent=2))
        if arguments.keep_serving:
            trainer.close()
            page = serving.page_of(client.connection.base_url, simulation.experiment_id)
            console.say(f"open {page} to look at the run")
            console.say(serving.about_key(folder.path))
            await serving.until_interrupted()
    return exit_codes.of_end(state, ignored=bool(result["always_refused"]))


def _require_usable(arguments: argparse.Namespace) -> None:
    """Raises UsageError for flags that miss something."""
    if arguments.server and not arguments.admin_key:
        raise UsageError("--server needs the coordinator's admin key: set FL_ADMIN_KEY.")
    if arguments.server and arguments.keep_serving:
        raise UsageError("--keep-serving is for a run that starts its coordinator: no --server.")
    if arguments.engine == "batched":
        if arguments.kernel == "native":
            raise UsageError("--engine batched trains by PyTorch: leave --kernel native out.")
        arguments.kernel = "torch"
    if arguments.engine == "ray" and arguments.workers:
        raise UsageError("--engine ray uses all of the cluster: leave --workers out.")
    for name in arguments.track:
        trackers.TRACKERS[name].require()


def _make_plan(arguments: argparse.Namespace, begun: Beginning | None) -> _Plan:
    """Read the data and check the settings. Raises UsageError, DataError and
    pydantic's ValidationError.
    """
    data = run_data.load(arguments, begun.model if begun else None)
    given = arguments.settings
    own_helper = not arguments.server and given.values.get("secure_aggregation") == HELPER
    settings = settle(
        given, data.examples, dataset=data.name, model=data.task.name, own_helper=own_helper
    )
    drawn = None if isinstance(settings.split, Equal) else draw_split(settings, data.examples)
    initial = initial_file(data.task, begun.model, begun.whose) if begun else None
    config = experiment_of(settings, drawn)
    if own_helper:  # the settings are written down, and another run has another helper
        settings = settings.model_copy(update={"helper_key": ""})
    return _Plan(data, settings, drawn, config, _load_prices(), initial, begun, own_helper)


def _load_prices() -> cost.Prices:
    """The table of prices that the embedded coordinator uses, too. Raises UsageError."""
    table = os.environ.get("FL_PRICES")
    try:
        return cost.Prices.load(Path(table) if table else None)
    except cost.BadPrices as error:
        raise UsageError(str(error)) from error


def _introduction(plan: _Plan) -> Iterator[str]:
    """The lines printed before anything starts."""
    data, config = plan.data, plan.config
    if data.note:
        yield data.note
    yield (
        f"{config.dataset}: {len(data.train)} training examples for {config.clients} clients, "
        f"{len(data.test)} for the test; {data.task.name} with {_weights(data.task)} weights"
    )
    if plan.begun:
        yield f"It begins from {plan.begun.whose}."
    if plan.drawn and plan.drawn.note:
        yield plan.drawn.note
    if warning := out_of_reach(config.to_config()):
        yield f"warning: {warning}"


def _make_trainer(
    stack: AsyncExitStack, arguments: argparse.Namespace, plan: _Plan
) -> LocalTrainer:
    """The trainer, whose processes `stack` ends."""
    trainer = LocalTrainer(plan.data.task, plan.data.train, _choose_engine(arguments, plan))
    stack.callback(trainer.close)
    if not arguments.server:  # a distant coordinator may refuse the key: it is asked first
        trainer.start()  # the processes import PyTorch while the coordinator starts
    return trainer


def _choose_engine(arguments: argparse.Namespace, plan: _Plan) -> Engine:
    """The engine of --engine; by itself, one model for all where a GPU would wait for each."""
    task, cohort = plan.data.task, plan.config.clients_per_round
    wanted = arguments.engine
    if wanted == "auto":
        pays = torch.cuda.is_available() and _weights(task) <= SMALL_WEIGHTS
        pays = pays and arguments.kernel != "native" and not arguments.workers
        can = pays and not reason_against(task, plan.data.train)
        wanted = "batched" if can else "processes"
    if wanted == "batched":
        return Batched(min(cohort, MOST_AT_ONCE))
    if wanted == "ray":
        return Ray()
    return Processes(arguments.workers or min(usable_cores(), cohort))


def _words(trainer: LocalTrainer) -> str:
    """What trains, and where."""
    engine = trainer.engine
    return f"{getattr(engine, 'description', type(engine).__name__)}, {trainer.loop}"


async def _with_helper(plan: _Plan, helper: EmbeddedHelper, view: progress.RunProgress) -> _Plan:
    """The plan with the helper's fingerprint."""
    key = await helper.fingerprint()
    view.say(
        f"helper {key} at {helper.url}: on the machine of the coordinator it shows how the two "
        "work, and protects nobody"
    )
    return replace(plan, config=plan.config.model_copy(update={"helper_key": key}))


async def _connect(
    stack: AsyncExitStack,
    arguments: argparse.Namespace,
    folder: RunFolder,
    view: progress.RunProgress,
    helper: EmbeddedHelper | None,
) -> CoordinatorClient:
    """A client of the coordinator at --server, or of an embedded one with its state in `folder`."""
    url, key = arguments.server, arguments.admin_key
    if not url:
        embedded = await serving.start_coordinator(stack, folder, view.say, helper)
        url, key = embedded.url, embedded.admin_key
    return await stack.enter_async_context(CoordinatorClient(url, key, on_retry=view.say))


async def _create(
    arguments: argparse.Namespace,
    plan: _Plan,
    folder: RunFolder,
    client: CoordinatorClient,
    trainer: LocalTrainer,
    view: progress.RunProgress,
    tracking: Tracking,
) -> Simulation:
    """The experiment, created or found again, and the trainer, ready to train."""

    def show_row(row: Row) -> None:
        view.watchers.on_row(row)
        tracking.row(row)

    simulation = Simulation(
        client,
        plan.data.task,
        plan.config,
        trainer,
        test=plan.data.test,
        secret=folder.secrets.secret,
        name=arguments.name,
        watchers=replace(view.watchers, on_row=show_row),
        shares=[part.tolist() for part in plan.drawn.parts] if plan.drawn else None,
        names=plan.drawn.names if plan.drawn else (),
        initial=plan.initial,
        origin=plan.begun.origin if plan.begun else None,
        rounds_before=config_file.rounds_of(folder.path) if arguments.resume else None,
        memory=folder.path / "clients",
        labels=plan.data.label_counts,
    )
    await simulation.create()
    if arguments.resume:
        await simulation.resume()
    # Only now, because `--resume` finds the experiment by the rounds that stand there.
    config_file.write(folder.path, plan.settings, arguments, plan.data.name)
    trainer.start()
    # In a thread: compiling may take a second, and the event loop has connections to serve.
    await asyncio.to_thread(trainer.prepare)
    if isinstance(plan.data.task, PictureTask):
        for note in plan.data.task.notes(TrainSettings.of_experiment(plan.config)):
            view.say(note)
            trainer.loop = "PyTorch on cpu"
    tracking.begin(simulation.experiment_id, values_of(plan.config))
    url = client.connection.base_url
    view.say(f"open {serving.page_of(url, simulation.experiment_id)} to watch")
    view.say(
        f"experiment {simulation.experiment_id} at {url} (API docs: {url}/docs); "
        f"{_words(trainer)}; results in {folder.path}"
    )
    return simulation


def _by_site(plan: _Plan, outcome: Outcome) -> BySite | None:
    """The last model at each client; None where the clients' data are alike."""
    if plan.drawn is None:
        return None
    names = plan.drawn.names or [client_id(slot) for slot in range(plan.config.clients)]
    return by_site(outcome.models, names, [len(part) for part in plan.drawn.parts])


async def _measure_classes(plan: _Plan, outcome: Outcome) -> Classes | None:
    """The last model's answers on the test set; None where no round made a model, and for a task
    of the user's own.
    """
    task, test = plan.data.task, plan.data.test
    if not outcome.rows or not isinstance(test, Arrays):
        return None
    if isinstance(task, TableTask) and task.schema.classes:
        answers = task.answers(weights_file.read(outcome.weights), test.x)
        return count(task.schema.classes, answers, test.y)
    if not isinstance(task, PictureTask):
        return None
    return await asyncio.to_thread(by_class, task, outcome.weights, test)


def _weights(task: Task) -> int:
    """How many numbers the task's weights are."""
    return sum(math.prod(shape) for _, shape in form_of(task).values())
