"""Clients that train a small network with a strategy, over a coordinator in this process."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from client_sdk.data.data import Arrays
from client_sdk.engines.in_line import InLine
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.participant import Participant
from client_sdk.simulation.simulate import initial_model
from client_sdk.task.torch_task import TorchTask
from client_sdk.tools.verify import verify

CLIENTS, EXAMPLES = 3, 42
_NUMBERS = itertools.count()
_DRAW = np.random.default_rng(4)
X = _DRAW.normal(size=(EXAMPLES, 3)).astype(np.float32)
DATA = Arrays(X, (X @ np.array([1.0, -2.0, 0.5]) > 0.2).astype(np.int64))
SETTINGS = {
    "clients": CLIENTS,
    "clients_per_round": 2,
    "rounds": 4,
    "local_epochs": 2,
    "batch_size": 4,
    "learning_rate": 0.2,
    "momentum": 0.0,
    "dataset_size": EXAMPLES,
    "keep_updates": 10,
}


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


TASK = TorchTask(network)


@dataclass
class Learning:
    """An experiment with its clients, and what they tell."""

    federation: object
    experiment: str
    key: str
    clients: list[Participant]
    trainer: LocalTrainer
    events: list = field(default_factory=list)


async def learning(federation, task=TASK, options=lambda number: {}, **settings) -> Learning:
    """An enrolled experiment; `options` gives a client's arguments of `Participant`."""
    # A deadline of its own, because `create` with the same settings finds the same experiment.
    found = {**SETTINGS, "deadline_seconds": 60 + next(_NUMBERS), **settings}
    made, key = await federation.create(initial_model(task, found.get("seed", 0)), **found)
    trainer, events = LocalTrainer(task, DATA, InLine()), []
    trainer.start()
    trainer.prepare()
    clients = [
        Participant(
            federation.admin,
            made,
            f"{number}" * 40,
            trainer,
            on_event=events.append,
            **options(number),
        )
        for number in range(found["clients"])
    ]
    for client in clients:
        await client.enrol(key)
    return Learning(federation, made, key, clients, trainer, events)


async def learn(federation, task=TASK, options=lambda number: {}, **settings) -> Learning:
    """A whole run, whose every model and state `verify` computes again."""
    found = await learning(federation, task, options, **settings)
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*(client.run() for client in found.clients))
    finally:
        found.trainer.close()
    await require_verified(found)
    return found


async def require_verified(found: Learning) -> None:
    shown = await found.federation.admin.experiment(found.experiment)
    assert shown.state == "completed", shown.reason
    findings = await verify(found.federation.admin, found.experiment)
    assert [f.message for f in findings if f.good is not True] == []


async def digests(found: Learning):
    """The SHA-256 of each version and of its state."""
    return [
        (version.sha256, {name: file.sha256 for name, file in version.state.items()})
        for version in await found.federation.admin.models(found.experiment)
    ]
