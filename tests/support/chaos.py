"""Simulated clients over real HTTP while coordinators are killed, and the reckoning."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass, field

import numpy as np
import safetensors.numpy

from client_sdk.api.client import CoordinatorClient
from client_sdk.api.connection import Retry
from client_sdk.errors import StateConflict
from tests.support.federation import config
from tests.support.processes import KEY, Server
from tests.support.some import some

SIZE = 2000
PATIENT = Retry(give_up_after=120, longest_pause=0.5)


def values_of(seed: int, number: int, slot: int) -> np.ndarray:
    """Whole numbers: their sums are exact, so the mean is the same bytes in any order."""
    random_ = np.random.default_rng((seed, number, slot))
    return random_.integers(-(10**6), 10**6, SIZE).astype(np.float64)


@dataclass
class Record:
    """What the clients know: the receipts that they hold, by round and slot, and how often."""

    receipts: dict[tuple[int, int], tuple[str, int]] = field(default_factory=dict)
    kills: int = 0


def kill_one(server: Server, dice: random.Random) -> None:
    """SIGKILL: a worker, or now and then all of them, started again at once as operators do."""
    workers = _children(server.process.pid)
    if not workers or dice.random() < 0.3:
        server.kill()
        server.start()
    else:
        os.kill(dice.choice(workers), signal.SIGKILL)


def _children(pid: int) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    lines = [line.split(None, 1) for line in found.stdout.splitlines()]
    return [int(number) for number, command in lines if "spawn_main" in command]


async def client(
    url: str, experiment: str, enrol_key: str, number: int, seed: int, record: Record
) -> None:
    """Poll and upload until it is over; now and then vanish and come back as oneself."""
    dice = random.Random(f"{seed} {number}")
    secret = hashlib.sha256(f"{seed} client {number}".encode()).hexdigest()
    slot = None
    while True:
        async with CoordinatorClient(url, enrol_key, retry=PATIENT) as api:
            got = await api.subscribe(experiment, secret, f"c{number}")
            assert slot in (None, got.client_id), "a restarted client took another slot"
            slot = got.client_id
            if await _live(api.using(got.token), experiment, int(slot[7:]), seed, dice, record):
                return


async def _live(
    api: CoordinatorClient,
    experiment: str,
    slot: int,
    seed: int,
    dice: random.Random,
    record: Record,
) -> bool:
    """False where the client vanishes: after the assignment, after the download, in mid-upload."""
    while True:
        status = await api.status(experiment)
        if status.action == "done":
            return True
        if status.action == "wait":
            await asyncio.sleep(min(status.retry_after, 0.3))
            continue
        fate = dice.random()
        if fate < 0.05:
            return False
        await api.download_model(experiment, status.base_version)
        if fate < 0.1:
            return False
        number, examples = status.round, 1 + slot
        data = safetensors.numpy.save({"w": values_of(seed, number, slot)})
        work = api.upload_update(experiment, number, data, examples, {}, 4096)
        try:
            if fate < 0.15:
                await asyncio.wait_for(work, dice.random() * 0.05)
            else:
                await work
        except TimeoutError:
            return False
        except StateConflict:
            continue
        record.receipts[number, slot] = (hashlib.sha256(data).hexdigest(), examples)


async def run(
    server: Server, *, seed: int, kills: int, rounds: int, clients: int = 8, pause: float = 1.0
) -> Record:
    """One experiment with so many SIGKILLs at random times; then the reckoning."""
    record, dice = Record(), random.Random(seed)
    async with CoordinatorClient(server.url, KEY, retry=PATIENT) as admin:
        settings = config(
            clients=clients,
            clients_per_round=clients // 2,
            rounds=rounds,
            quorum=1,
            dataset_size=100 * clients,
            deadline_seconds=5,
            max_attempts=1000,
        )
        made = await admin.create_experiment("chaos", settings, f"chaos-{seed}-{time.time()}")
        initial = safetensors.numpy.save({"w": np.zeros(SIZE)})
        await admin.upload_initial_model(made.id, initial, 4096)
        work = asyncio.gather(
            *(
                client(server.url, made.id, made.enrolment_key, n, seed, record)
                for n in range(clients)
            )
        )
        while not work.done() and record.kills < kills:
            await asyncio.sleep(dice.uniform(0.1, pause))
            await asyncio.to_thread(kill_one, server, dice)
            record.kills += 1
        await work
        await reckon(admin, made.id, seed, rounds, record)
    return record


async def reckon(
    admin: CoordinatorClient, experiment: str, seed: int, rounds: int, record: Record
) -> None:
    """Each round closed once, over exactly what was accepted; each model is its updates' mean."""
    shown = await admin.experiment(experiment)
    assert shown.state == "completed", shown.reason
    assert [r.number for r in shown.history] == list(range(1, rounds + 1))
    models = {m.version: m for m in await admin.models(experiment)}
    assert sorted(models) == list(range(rounds + 1))
    for number in range(1, rounds + 1):
        round_ = await admin.round(experiment, number)
        assert round_.state == "closed"
        total, examples = np.zeros(SIZE), 0
        for update in some(round_.updates):
            slot = int(update.client[7:])
            values = values_of(seed, number, slot)
            sent = hashlib.sha256(safetensors.numpy.save({"w": values})).hexdigest()
            assert (update.sha256, update.num_examples) == (sent, 1 + slot)
            total += values * (1 + slot)
            examples += 1 + slot
        mean = hashlib.sha256(safetensors.numpy.save({"w": total / examples})).hexdigest()
        assert models[number].sha256 == mean, f"model {number} is not the mean of its updates"
        assert models[number].parent_sha256 == models[number - 1].sha256
        accepted = {int(update.client[7:]) for update in round_.updates}
        receipted = {slot for of, slot in record.receipts if of == number}
        assert receipted <= accepted, f"round {number}: a receipt was not averaged"
