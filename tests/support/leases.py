"""A round that is about to close, and a process that falls asleep over it."""

from __future__ import annotations

import asyncio

import numpy as np

from app.service.coordinator import Limits
from tests.support.federation import weights

CELLS = Limits(part_bytes=256, group_size=1, lease_seconds=30)  # four spans, two groups


def model(value: float) -> bytes:
    return weights(value, big=np.full(200, value, np.float32))


class Slow:
    """A store whose calls sleep from the n-th wanted one on, until a test wakes them.

    `once`: only the n-th wanted call sleeps.
    """

    def __init__(self, inner, name, wanted, count=1, *, once=False):
        self._inner, self._name, self._wanted, self._left = inner, name, wanted, count
        self._once = once
        self.asleep, self.wake = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name):
        method = getattr(self._inner, name)
        if name != self._name:
            return method

        async def call(*args, **kwargs):
            if self._wanted(*args):
                self._left -= 1
                if self._left == 0 or (self._left < 0 and not self._once):
                    self.asleep.set()
                    await self.wake.wait()
            return await method(*args, **kwargs)

        return call


class Meanwhile:
    """A store where something happens before each call of one name: `act` gets its arguments."""

    def __init__(self, inner, name, act):
        self._inner, self._name, self._act = inner, name, act

    def __getattr__(self, name):
        method = getattr(self._inner, name)
        if name != self._name:
            return method

        async def call(*args, **kwargs):
            await self._act(*args)
            return await method(*args, **kwargs)

        return call


class StoppedAtClose:
    """A federation's documents: the experiment is stopped just after a round has closed."""

    def __init__(self, federation, number):
        self._federation, self._number = federation, number

    def __getattr__(self, name):
        return getattr(self._federation.documents, name)

    async def replace(self, kind, key, revision, body):
        done = await self._federation.documents.replace(kind, key, revision, body)
        if kind == "rounds" and (body["state"], body["number"]) == ("closed", self._number):
            await self._federation.coordinator().experiments.stop(key.split("/")[0], "Enough.")
        return done


async def ready_to_close(federation):
    """A round whose last update is in, at its deadline: the next call closes it."""
    experiment, key = await federation.create(model(0), clients=3, rounds=1, clients_per_round=3)
    members = [await federation.enrol(experiment, key, n) for n in range(3)]
    for number, member in enumerate(members[:2]):
        await member.upload_bytes(1, model(2.0 * number))
    federation.clock.now += 61
    return experiment
