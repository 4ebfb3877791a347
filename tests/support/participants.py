"""Participants whose trainers do as they are told."""

from __future__ import annotations

import asyncio
import math

from client_sdk.participant import Participant
from client_sdk.task.task import LocalUpdate
from tests.support.federation import value_of, weights


class Adding:
    """Answers with the base model plus one; `spoilt` clients answer with NaN."""

    def __init__(self, spoilt=()):
        self.spoilt = spoilt
        self.trained = []

    async def train(self, client_id, indices, data, task):
        self.trained.append((client_id, task.round))
        value = math.nan if client_id in self.spoilt else value_of(data) + 1
        metrics = {"loss_before": value, "accuracy_before": 0.5}
        return LocalUpdate(weights(value), len(indices), metrics)


async def take_part(federation, trainer, tell=lambda event: None, **changes):
    """All clients at once, until the experiment is over; gives it and their events."""
    experiment, key = await federation.create(**changes)
    events = []

    def on_event(event):
        events.append(event)
        tell(event)

    clients = [
        Participant(federation.admin, experiment, f"{n}" * 40, trainer, on_event=on_event)
        for n in range(changes.get("clients", 4))
    ]
    for client in clients:
        await client.enrol(key)
    async with asyncio.timeout(30):
        results = await asyncio.gather(*(client.run() for client in clients))
    assert {r.state for r in results} == {"completed"}
    return await federation.admin.experiment(experiment), events


async def one_turn(federation, trainer, **options):
    """A participant that may train now, its task, and what it tells."""
    experiment, members = await federation.start(clients=1, clients_per_round=1, rounds=1)
    (member,) = members.values()
    told = []
    client = Participant(member.api, experiment, "k" * 40, trainer, on_event=told.append, **options)
    return client, await member.status(), told
