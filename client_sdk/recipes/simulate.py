"""`simulate`: a whole experiment in one call, with a coordinator of its own.

result = simulate(SklearnTask(LogisticRegression()), train=(x, y), test=(tx, ty), clients=5)
print(result.metrics, result.model)
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
import threading
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from client_sdk.api.client import CoordinatorClient
from client_sdk.data.splits.drawing import Law
from client_sdk.engines.engine import Engine
from client_sdk.engines.in_line import InLine
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.errors import BadSettings, TrainingFailed
from client_sdk.participant import Event
from client_sdk.recipes.result import SimulationResult
from client_sdk.recipes.sharing import Shared, share_out
from client_sdk.simulation.defaults import derived
from client_sdk.simulation.embedded import EmbeddedCoordinator
from client_sdk.simulation.outcome import Outcome, Row
from client_sdk.simulation.simulate import Simulation, Watchers
from client_sdk.task.partly_shared import PartlyShared
from client_sdk.task.task import Task
from serverless_fl.alternatives import suggestion
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.domain.experiment import OWN, ExperimentState
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.settings import listed, settings_of

if TYPE_CHECKING:
    from client_sdk.task.initial import Given

T = TypeVar("T")


def simulate(task: Task, train: Any, test: Any = None, **options: Any) -> SimulationResult:
    """Run an experiment with all its clients on this machine, and wait for its end.

    It works in a script, in any thread, and in a notebook. The arguments are those of
    `simulate_async`.
    """
    return _wait_for(simulate_async(task, train, test, **options))


async def simulate_async(
    task: Task,
    train: Any,
    test: Any = None,
    *,
    clients: int | None = None,
    split: Law = "equal",
    shared: Sequence[str] = ("*",),
    engine: Engine | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
    name: str = "",
    initial_model: Given | None = None,
    **settings: Any,
) -> SimulationResult:
    """Run an experiment with all its clients on this machine.

    `train` is shared out equally among 20 clients, or so many; with `split`, otherwise: a split's
    name ("label-shards"), its name and settings ({"name": "dirichlet-classes", "alpha": 0.1}), or a
    function of (examples, clients, seed) that gives the places of each client's examples
    (docs/data.md). Or `train` has the data of each site by its name, such as {"north": (x, y)}:
    then each site is a client.

    Each new global model is measured on `test`, by default a fifth of the data (of each site's),
    drawn by the seed. Data are what the task takes: (x, y) arrays or tensors, a list, a torch
    Dataset (see `as_data`), or pictures from `load`, with their own test set.

    Tensors whose names the patterns of `shared` leave out stay with their client until the end (see
    `PartlyShared`): ["*", "!head.*"] for a head of each client's own.

    `settings` are those of an experiment, such as `rounds=20` or `seed=1` (docs/settings.md).
    Clients train in this process; `engine=Processes()` uses all cores. `on_row` gets each round
    when it is closed. `initial_model`, a model's file or tensors by name, takes the place of random
    weights. The coordinator is a process of its own, which keeps its state in a temporary folder.

    It warns of clients whose every update was refused, and of metrics that cannot be kept.

    Raises BadSettings, DataError, TrainingFailed (also where no round succeeded), ClientError.
    """
    parts = share_out(train, test, clients, split, settings.get("seed", 0))
    task.meet(parts.train)
    config = _config(task, parts, settings)
    drawn = parts.drawn
    watchers = Watchers(on_row=on_row, on_event=_warn_of_dropped)
    secret = secrets.token_hex(16)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="serverless-fl-"))
        if list(shared) != ["*"]:
            task = PartlyShared(task, shared, Path(folder) / "clients")
        initial = None if initial_model is None else _initial(task, initial_model)
        trainer = stack.enter_context(LocalTrainer(task, parts.train, engine or InLine()))
        async with (
            EmbeddedCoordinator(Path(folder), secrets.token_hex(16)) as coordinator,
            CoordinatorClient(coordinator.url, coordinator.admin_key) as client,
        ):
            simulation = Simulation(
                *(client, task, config, trainer),
                test=parts.test,
                secret=secret,
                name=name,
                watchers=watchers,
                shares=None if drawn is None else [part.tolist() for part in drawn.parts],
                names=() if drawn is None else drawn.names,
                initial=initial,
            )
            await simulation.create()
            outcome = await simulation.run()
            _require_learnt(outcome)
            return SimulationResult(task, outcome, drawn, parts.test, parts.test_sites)


def _initial(task: Task, given: Given) -> bytes:
    from client_sdk.task.initial import initial_file  # brings PyTorch, which few tasks need here

    return initial_file(task, given)


def _warn_of_dropped(event: Event) -> None:
    if event.kind == "dropped" and not event.client_id:  # each client would say the same
        warnings.warn(event.message, stacklevel=2)


def _require_learnt(outcome: Outcome) -> None:
    """Warn of what is not in the model. Raises TrainingFailed where nothing is."""
    experiment, rounds = outcome.experiment, len(outcome.rows)
    found = [
        f"Every update of {one.client} was refused: {one.reason}"
        for one in experiment.always_refused
    ]
    if experiment.state is ExperimentState.FAILED:
        if not rounds:
            raise TrainingFailed(" ".join(["No round succeeded.", experiment.reason, *found[:1]]))
        found.append(f"The experiment failed after {rounds} rounds: {experiment.reason}")
    for sentence in found:
        warnings.warn(sentence, stacklevel=2)


def _config(task: Task, parts: Shared, settings: dict[str, Any]) -> ExperimentConfig:
    """The settings of the experiment. Raises BadSettings, which names the one at fault."""
    clients, examples = parts.clients, len(parts.train)
    own = {"dataset": "own", "model": task.name, "clients": clients}
    if parts.drawn is None:
        own["dataset_size"] = examples
    else:
        own |= {"data": OWN, "max_examples_per_client": max(map(len, parts.drawn.parts))}
    if twice := own.keys() & settings.keys():
        raise BadSettings(f"simulate sets {', '.join(sorted(twice))} by itself: leave it out.")
    try:
        config = ExperimentConfig(**(derived(clients, examples) | settings | own))
        config.to_config()
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise BadSettings(_unknown(list(map(str, first["loc"])), settings)) from error
        raise BadSettings(f"The setting {what}: {first['msg']}.") from error
    except InvalidConfig as error:
        raise BadSettings(error.message) from error
    return config


def _unknown(place: Sequence[str], settings: Mapping[str, Any]) -> str:
    """Say of a setting that does not exist at this place where it does, or what is like it."""
    declared, (*choices, name) = settings_of(ExperimentConfig), place
    known = declared.get(name)
    if choices:
        choice = choices[0]
        chosen = settings[choice]["name"]
        if known is not None and known.choice == choice:
            takers = listed(known.taken_by)
            return f"{name} is a setting of {takers}; the {choice} is {chosen}."
        own = next(one for one in declared[choice].alternatives if one.name == chosen)
        return f"The {choice} {chosen} has no setting {name!r}{suggestion(name, own.settings)}."
    if known is not None:
        taker = next(iter(known.taken_by))
        return (
            f"{name} is a setting of a {known.choice}: give it inside, as "
            f'{known.choice}={{"name": "{taker}", "{name}": ...}}.'
        )
    return f"There is no setting {name!r}{suggestion(name, declared)}: docs/settings.md lists them."


def _wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where this thread has a running event loop.

    A notebook has one, so the coroutine gets a thread with a loop of its own. An interruption
    cancels it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    loop = asyncio.new_event_loop()
    future = asyncio.run_coroutine_threadsafe(work, loop)
    thread = threading.Thread(target=loop.run_forever, name="simulation", daemon=True)
    thread.start()
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
    finally:
        asyncio.run_coroutine_threadsafe(_settle(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _settle() -> None:
    """Wait for the other tasks of this loop, which clean up behind themselves."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
