"""Clients under secure aggregation that take one turn at a time, and may be lost in any phase."""

from __future__ import annotations

import numpy as np
import safetensors.numpy

from client_sdk.memory.memory import Memory
from client_sdk.participant import Participant
from client_sdk.task.task import LocalUpdate
from client_sdk.tools.verify import verify
from serverless_fl.wire.turns import Train
from tests.support.federation import key_of

MASKED = {"secure_aggregation": "pairs", "clients_per_round": 4, "max_weight_change": 0.5}
INITIAL = {
    "a.weight": np.linspace(-1, 1, 30, dtype=np.float32).reshape(5, 6),
    "b.weight": np.zeros(7, np.float32),
    "steps": np.array([3], np.int64),
}


class Drifting:
    """Trains by adding noise of the client and the round to each weight, at most 0.4."""

    def __init__(self):
        self.changes = {}  # by client and round
        self.trained = 0

    async def train(self, client_id, indices, data, task):
        self.trained += 1
        slot = int(client_id.rpartition("-")[2])
        draw = np.random.default_rng([slot, task.round])
        found = safetensors.numpy.load(data)
        for name, array in sorted(found.items()):  # the reader's own order is any
            if array.dtype.kind == "f":
                change = draw.uniform(-0.4, 0.4, array.shape)
                found[name] = (array + change).astype(array.dtype)
                self.changes[slot, task.round, name] = change
        metrics = {"accuracy_before": 0.25 * (1 + slot % 2), "loss_before": float(slot)}
        return LocalUpdate(safetensors.numpy.save(found), len(indices), metrics)


async def enrolled(
    federation, experiment_id, key, trainer, count, memory=None, told=None, options=None
):
    """Participants that have enrolled, by slot; `memory` is a folder for what they keep, and
    `options` gives more arguments of a participant by its slot.
    """
    clients = []
    for number in range(count):
        keeps = Memory(memory / f"{number}" if memory else None)
        client = Participant(
            *(federation.admin, experiment_id, key_of(number), trainer),
            memory=keeps,
            on_event=told.append if told is not None else None,
            **(options or {}).get(number, {}),
        )
        await client.enrol(key)
        clients.append(client)
    return clients


async def begin(federation, told=None, memory=None, **changes):
    trainer = Drifting()
    settings = MASKED | {"dataset_size": 42, "keep_updates": 9} | changes
    initial = safetensors.numpy.save(INITIAL)
    experiment_id, key = await federation.create(initial, **settings)
    count = settings.get("clients", 4)
    clients = await enrolled(federation, experiment_id, key, trainer, count, memory, told)
    return experiment_id, clients, trainer


async def model(federation, experiment_id, version):
    return safetensors.numpy.load(await federation.admin.download_model(experiment_id, version))


def weighted(trainer, clients, slots, number, name):
    """The mean of the clients' changes by their examples."""
    examples = {slot: len(clients[slot]._indices) for slot in slots}
    total = sum(trainer.changes[s, number, name] * examples[s] for s in slots)
    return total / sum(examples.values())


async def require_mean(federation, experiment_id, clients, trainer, slots):
    """Model 1 is the mean of these clients' updates, and `verify` recomputes it."""
    after = await model(federation, experiment_id, 1)
    exact = INITIAL["a.weight"] + weighted(trainer, clients, slots, 1, "a.weight")
    assert np.abs(after["a.weight"] - exact).max() < 1e-6
    findings = await verify(federation.admin, experiment_id)
    assert all(found.good for found in findings), findings


async def require_means(federation, experiment_id, clients, trainer, words):
    """Models 1 and 2 are the means of all four clients' updates, but for the words' rounding."""
    before = INITIAL
    step = 0.5 / ((2 ** (int(words[4:]) - 1) - 1) // 4) * 11 / 42  # most examples, all examples
    for number in (1, 2):
        after = await model(federation, experiment_id, number)
        assert (after["steps"] == 3).all()
        for name in ("a.weight", "b.weight"):
            exact = before[name] + weighted(trainer, clients, range(4), number, name)
            assert np.abs(after[name] - exact).max() <= 4 * step + 2e-7
        before = after


async def take_turns(federation, clients, lost=None, most=200):
    """Let clients take turns until the experiment ends; gives how it ended.

    `lost` gives, for a slot, the state of round 1 in which the client falls silent for good. The
    clock moves on while all others wait.
    """
    lost, gone = lost or {}, set()
    for _ in range(most):
        idle = True
        for slot, client in enumerate(clients):
            if slot in gone:
                continue
            status = await client._client.status(client.experiment_id)
            state = "collecting" if isinstance(status, Train) else getattr(status, "state", None)
            if state is not None and lost.get(slot) == state:
                gone.add(slot)
                continue
            turn = await client.turn()
            idle = idle and not turn.trained
            if turn.done is not None:
                return turn.done
        if idle:
            federation.clock.now += 1000.0
    raise AssertionError("the experiment does not end")
