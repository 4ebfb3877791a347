"""One client's part of a round: hold examples out, measure, train, measure again.

These are the jobs that engines run. They are functions of their arguments alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from client_sdk.data.data import Data
from client_sdk.data.finite import not_finite
from client_sdk.data.holdout import hold_out
from client_sdk.data.seeds import derive_seed
from client_sdk.errors import BadSettings, DataError, TrainingFailed
from client_sdk.task import weights_file
from client_sdk.task.metrics import number_of
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import (
    Evaluation,
    LocalUpdate,
    NotTogether,
    Party,
    Result,
    Task,
    Weights,
)
from serverless_fl.aggregation.fednova import STEPS
from serverless_fl.wire.turns import Train, Training

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """One client's training for one round: its task, the global weights, its data, settings."""

    task: Task
    base: Weights
    data: Data
    held_out: Data | None
    settings: TrainSettings
    seed: int
    needs: Collection[str] = ()  # metrics that the strategy needs


def plan_training(
    task: Task,
    data: Data,
    client_id: str,
    indices: Sequence[int],
    weights: bytes,
    order: Train,
    offset: Weights | None = None,
) -> Plan:
    """What one client trains in one round, on its examples of `data` that it does not hold out.

    `offset` is what the strategy adds to each gradient. Raises DataError.
    """
    seed, strategy = order.training.seed, order.strategy
    mine, held_out = hold_out(indices, derive_seed(seed, "holdout", client_id))
    return Plan(
        task.for_client(client_id),
        weights_file.read(weights),
        data.subset(mine),
        data.subset(held_out) if held_out else None,
        _settings(order, offset),
        derive_seed(seed, "train", order.round, client_id),
        strategy.needs if strategy else (),
    )


def train_client(
    task: Task,
    data: Data,
    client_id: str,
    indices: Sequence[int],
    weights: bytes,
    order: Train,
    offset: Weights | None = None,
) -> LocalUpdate:
    """Train one client for one round; the arguments are those of `plan_training`.

    Raises DataError, BadSettings for a correction that the task does not make, and TrainingFailed
    where the task fails.
    """
    plan = plan_training(task, data, client_id, indices, weights, order, offset)
    try:
        update = _update(plan)
    except TrainingFailed as error:
        _blame(data, indices, error)
        raise
    if not _is_sound(update):
        _blame(data, indices)
    return update


def train_clients(
    task: Task, data: Data, orders: Sequence[Sequence[Any]], at_once: int
) -> list[LocalUpdate]:
    """Train several clients, `at_once` as one model; each has the arguments of `train_client`.

    Raises NotTogether where they cannot be trained so, also where an update is not finite, and what
    `train_client` raises.
    """
    plans = [plan_training(task, data, *order) for order in orders]
    for plan in plans:
        require_taken(plan.task, plan.settings)
        if plan.task is not task:
            raise NotTogether(f"{task.name} has tensors of each client's own")
        if plan.settings.example_noise is not None:
            raise NotTogether("privacy dp-sgd takes the gradient of each example")
    started = time.perf_counter()
    before = [_measured(plan, plan.base) for plan in plans]
    parties = [Party(plan.base, plan.data, plan.settings, plan.seed) for plan in plans]
    results = _call(task, "train_together", lambda: task.train_together(parties, at_once))
    after = [_measured(plan, one.weights) for plan, one in zip(plans, results, strict=True)]
    seconds = (time.perf_counter() - started) / len(plans)
    found = [
        _finished(*parts, seconds) for parts in zip(plans, results, before, after, strict=True)
    ]
    if not all(map(_is_sound, found)):
        raise NotTogether("an update has values that are not finite")
    return found


def _is_sound(update: LocalUpdate) -> bool:
    """Whether the weights and metrics are finite."""
    numbers = map(number_of, update.metrics.values())
    is_sound = all(math.isfinite(number) for number in numbers if number is not None)
    return is_sound and weights_file.is_finite(update.weights)


def _blame(data: Data, indices: Sequence[int], error: Exception | None = None) -> None:
    """Raise DataError where a client's examples are the reason that it cannot learn from them."""
    if fault := not_finite(data, indices):
        raise DataError(fault) from error


def _settings(order: Train, offset: Weights | None) -> TrainSettings:
    """The settings of a turn, with what its strategy and its privacy add to gradients.

    Raises DataError.
    """
    settings = TrainSettings.of(order.training)
    pull = order.strategy.pull if order.strategy else 0.0
    return replace(
        settings,
        proximal_mu=settings.proximal_mu + pull,
        offset=offset,
        example_noise=order.told_privacy.privacy.example_noise,
    )


def evaluate_client(
    task: Task, data: Data, client_id: str, indices: Sequence[int], weights: bytes, seed: int
) -> Evaluation:
    """Measure a model on the examples of `data` that one client holds out."""
    _, held_out = hold_out(indices, derive_seed(seed, "holdout", client_id))
    if not held_out:
        return Evaluation({}, 0)
    own = task.for_client(client_id)
    found = measure(own, weights_file.read(weights), data.subset(held_out))
    return Evaluation(found, len(held_out))


def fine_tune_client(
    task: Task,
    data: Data,
    client_id: str,
    indices: Sequence[int],
    weights: bytes,
    training: Training,
) -> Evaluation:
    """Train a model on one client's own examples, and measure it on those that it holds out.

    Metrics after the training are named `..._after`; the others are those of `weights`. FedProx's
    term and a strategy's are left out, because they hold the client near the global model.
    """
    seed = training.seed
    mine, held_out = hold_out(indices, derive_seed(seed, "holdout", client_id))
    if not held_out:
        return Evaluation({}, 0)
    own, base, test = task.for_client(client_id), weights_file.read(weights), data.subset(held_out)
    settings = replace(TrainSettings.of(training), proximal_mu=0.0)
    require_taken(own, settings)
    before = measure(own, base, test)
    seed = derive_seed(seed, "fine-tuning", client_id)
    tuned = _call(own, "train", lambda: own.train(base, data.subset(mine), settings, seed))
    after = measure(own, tuned.weights, test)
    return Evaluation(before | {f"{n}_after": value for n, value in after.items()}, len(held_out))


def local_update(
    task: Task,
    weights: bytes,
    data: Data,
    held_out: Data | None,
    settings: TrainSettings,
    seed: int,
    needs: Collection[str] = (),
) -> LocalUpdate:
    """Train the global weights on `data`, and measure them on `held_out` before and after.

    Metrics of the held-out examples are named `..._before` and `..._after`. `needs` are metrics
    that the strategy needs. Raises BadSettings for a correction that the task does not make.
    """
    require_taken(task, settings)
    base = weights_file.read(weights)
    return _update(Plan(task, base, data, held_out, settings, seed, needs))


def _update(plan: Plan) -> LocalUpdate:
    require_taken(plan.task, plan.settings)
    started, task = time.perf_counter(), plan.task
    before = _measured(plan, plan.base)
    parts = plan.base, plan.data, plan.settings, plan.seed
    result = _call(task, "train", lambda: task.train(*parts))
    if not isinstance(result, Result):
        raise TrainingFailed(
            f"The train method of {task.name} must give a Result, not a {type(result).__name__}."
        )
    after = _measured(plan, result.weights)
    return _finished(plan, result, before, after, time.perf_counter() - started)


def _measured(plan: Plan, weights: Weights) -> dict[str, float]:
    """Metrics of the held-out examples; none where the client holds none out."""
    return {} if plan.held_out is None else measure(plan.task, weights, plan.held_out)


def _finished(
    plan: Plan,
    result: Result,
    before: Mapping[str, float],
    after: Mapping[str, float],
    seconds: float,
) -> LocalUpdate:
    metrics = dict(result.metrics)
    if STEPS in plan.needs and result.effective_steps is not None:
        metrics[STEPS] = result.effective_steps
    metrics["train_seconds"] = seconds
    metrics |= {f"{name}_before": value for name, value in before.items()}
    metrics |= {f"{name}_after": value for name, value in after.items()}
    weights = _written(plan.task, plan.base, result)
    reached, spent = result.effective_steps, result.spent
    if plan.settings.example_noise is not None and spent is None:
        raise TrainingFailed(
            f"{plan.task.name} says that it trains with privacy dp-sgd (`takes`), but its Result "
            "does not say what that has spent."
        )
    return LocalUpdate(weights, result.num_examples, metrics, reached, spent)


def require_taken(task: Task, settings: TrainSettings) -> None:
    """Raise BadSettings unless the task makes the corrections that the settings ask for."""
    for name, words in settings.corrections.items():
        if name not in task.takes:
            raise BadSettings(f"The task {task.name} does not train with {words}.")


def measure(task: Task, weights: Mapping[str, Any], data: Data) -> dict[str, float]:
    """A model's metrics on some examples, without those that are no numbers.

    Raises TrainingFailed where the task fails.
    """
    found = _call(task, "evaluate", lambda: task.evaluate(weights, data))
    if not isinstance(found, Mapping):
        raise TrainingFailed(
            f"The evaluate method of {task.name} must give a dict of metrics, not a "
            f"{type(found).__name__}."
        )
    numbers = {str(name): number_of(value) for name, value in found.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def _written(task: Task, base: Mapping[str, Any], result: Result) -> bytes:
    """The new weights as bytes. Raises TrainingFailed where they are not of the model's form."""
    try:
        found, expected = weights_file.form(result.weights), weights_file.form(base)
    except DataError as error:
        raise TrainingFailed(f"What {task.name} trained cannot travel: {error}") from error
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            raise TrainingFailed(
                f"{task.name} changed the form of the weights: {name!r} is {_form(found, name)} "
                f"after the training, but {_form(expected, name)} before."
            )
    return weights_file.write(result.weights)


def _form(form: weights_file.Form, name: str) -> str:
    kind, shape = form.get(name, ("missing", ()))
    return f"{kind} {list(shape)}" if shape else kind


def _call(task: Task, method: str, call: Callable[[], T]) -> T:
    """Call a user's code, and put its failure into a sentence; the cause keeps the traceback."""
    try:
        return call()
    except (BadSettings, DataError, TrainingFailed, NotTogether, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise  # PyTorch's allocator; the engine says what to do
        raise TrainingFailed(
            f"The {method} method of {task.name or type(task).__name__} raised "
            f"{type(error).__name__}: {error}"
        ) from error
