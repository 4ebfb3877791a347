"""A whole simulation, with a trainer that does as it is told."""

import asyncio
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import safetensors.numpy

from client_sdk.data import datasets
from client_sdk.errors import NotThere
from client_sdk.results.report import build_report
from client_sdk.simulation.global_models import GlobalModels
from client_sdk.simulation.simulate import Simulation, Watchers
from client_sdk.simulation.waker import Waker
from client_sdk.task.pictures import picture_task
from client_sdk.task.task import LocalUpdate
from serverless_fl.domain.experiment import ExperimentState
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.turns import Done
from tests.support.digits import digits_simulation


class Diverging:
    """Sends weights that are finite, and so large that every answer of the model is NaN."""

    async def train(self, client_id, indices, data, task):
        base = safetensors.numpy.load(data)
        huge = {name: np.full_like(values, 3e38) for name, values in base.items()}
        return LocalUpdate(safetensors.numpy.save(huge), len(indices), {})


async def test_a_global_model_that_diverged_is_reported_and_ends_nothing(federation):
    simulation = digits_simulation(federation, Diverging(), clients=2, rounds=2)
    await simulation.create()
    outcome = await simulation.run()
    assert outcome.experiment.state == "completed"
    assert [row.loss for row in outcome.rows] == [1e30, 1e30]  # the largest there is
    assert all(0 <= row.accuracy < 0.3 for row in outcome.rows)


class OneInVain:
    """One client's updates hold NaN; the others send what they got."""

    async def train(self, client_id, indices, data, task):
        if client_id == "client-02":
            base = safetensors.numpy.load(data)
            bad = {name: np.full_like(values, np.nan) for name, values in base.items()}
            data = safetensors.numpy.save(bad)
        return LocalUpdate(data, len(indices), {})


async def test_a_client_that_is_refused_in_every_round_is_in_the_report(federation):
    simulation = digits_simulation(federation, OneInVain(), clients=3, rounds=2)
    await simulation.create()
    outcome = await simulation.run()
    assert outcome.experiment.state == "completed"
    result = build_report(outcome, dataset="digits", note="", parameters=1, wall_seconds=1.0)
    (refused,) = result["always_refused"]
    assert refused["client"] == "client-02"
    assert "NaN" in refused["reason"]


class Echo:
    """Sends what it got."""

    async def train(self, client_id, indices, data, task):
        return LocalUpdate(data, len(indices), {})


async def test_a_model_that_was_deleted_before_it_was_measured_is_told(federation, monkeypatch):
    async def gone(self, summary):
        raise NotThere(404, "model-not-kept", "The model is not kept.")

    monkeypatch.setattr(GlobalModels, "measure", gone)
    events = []
    simulation = digits_simulation(federation, Echo(), clients=2, rounds=1)
    simulation.watchers = Watchers(on_event=events.append)
    await simulation.create()
    outcome = await simulation.run()
    assert outcome.rows == []
    told = [(e.client_id, e.round, e.message) for e in events if e.kind == "unmeasured"]
    assert told == [("", 1, "The model is not kept.")]


async def test_clients_ask_only_when_there_is_something_for_them(federation, monkeypatch):
    cohort, rounds = 3, 4
    asked = Counter()
    status = federation.admin.status.__func__

    async def counted(self, experiment_id):
        asked[experiment_id] += 1
        return await status(self, experiment_id)

    monkeypatch.setattr(type(federation.admin), "status", counted)
    simulation = digits_simulation(
        federation, Echo(), clients=30, clients_per_round=cohort, rounds=rounds
    )
    await simulation.create()
    outcome = await simulation.run()
    assert [row.updates for row in outcome.rows] == [cohort] * rounds
    # For a round that it is drawn for, once to be told to train and once after its upload, with one
    # to spare; nobody asks for the end, which one look told.
    assert asked.total() <= 3 * cohort * rounds


def seen(state=ExperimentState.RUNNING, number=1, attempt=1, cohort=()):
    turn = SimpleNamespace(number=number, attempt=attempt, cohort=list(cohort), masked=False)
    current = turn if number else None
    return SimpleNamespace(state=state, reason="of it", model_version=7, current_round=current)


async def test_only_the_cohort_is_woken():
    waker, wait = Waker(), SimpleNamespace(retry_after=1.0)
    waker.update(seen(number=1, cohort=["a"]))
    sleeping = {c: asyncio.create_task(waker.sleep(c, wait)) for c in "bc"}
    await asyncio.sleep(0)
    waker.update(seen(number=2, cohort=["b"]))
    await sleeping["b"]
    assert not sleeping["c"].done()
    waker.update(seen(number=2, attempt=2, cohort=["c"]))
    await sleeping["c"]


async def test_a_client_that_asked_while_the_turn_changed_asks_once_more():
    waker, wait = Waker(), SimpleNamespace(retry_after=1.0)
    waker.update(seen(number=2, cohort=["a"]))
    assert await waker.sleep("a", wait) is None  # at once
    again = asyncio.create_task(waker.sleep("a", wait))
    await asyncio.sleep(0)
    waker.update(seen(number=2, cohort=["a"]))  # nothing new
    await asyncio.sleep(0)
    assert not again.done()
    waker.update(seen(state=ExperimentState.COMPLETED, number=0))
    done = Done(state=ExperimentState.COMPLETED, reason="of it", model_version=7)
    assert await again == done
    assert await waker.sleep("late", wait) == done


async def test_a_round_is_measured_once_its_model_is_announced(federation, monkeypatch):
    """It is closed a moment before: who asks then finds the round, and no model of it."""
    digits = datasets.load("digits", Path("nowhere"))
    task = picture_task(digits)
    config = ExperimentConfig(
        dataset="digits",
        dataset_size=len(digits.train_y),
        model=task.name,
        clients=2,
        clients_per_round=2,
        rounds=2,
    )
    kind = type(federation.admin)
    experiment, models_of = kind.experiment, kind.models
    shown = [0]  # the newest version that was announced, of each look

    async def closed_before_it_is_announced(self, *arguments):
        view = await experiment(self, *arguments)
        newest = min(view.model_version or 0, shown[-1] + 1)
        if shown.count(newest - 1) < 2 and newest > shown[-1]:
            newest -= 1  # each version is kept back for one more look
        shown.append(newest)
        over = newest == 2
        return view.model_copy(
            update={"model_version": newest, "state": view.state if over else "running"}
        )

    async def announced(self, *arguments, **options):
        found = await models_of(self, *arguments, **options)
        return [model for model in found if model.version <= shown[-1]]

    monkeypatch.setattr(kind, "experiment", closed_before_it_is_announced)
    monkeypatch.setattr(kind, "models", announced)
    simulation = Simulation(
        federation.admin, task, config, Echo(), test=digits.test, secret="of this test"
    )
    await simulation.create()
    outcome = await simulation.run()
    assert [row.round for row in outcome.rows] == [1, 2]
