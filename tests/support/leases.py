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
    """A store at whose n-th write of a kind a process falls asleep."""

    def __init__(self, inner, name, wanted, count=1):
        self._inner, self._name, self._wanted, self._left = inner, name, wanted, count
        self.asleep, self.wake = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name):
        method = getattr(self._inner, name)
        if name != self._name:
            return method

        async def call(*args):
            if self._wanted(*args):
                self._left -= 1
                if self._left == 0:
                    self.asleep.set()
                    await self.wake.wait()
            return await method(*args)

        return call


async def ready_to_close(federation):
    """A round whose last update is in, at its deadline: the next call closes it."""
    experiment, key = await federation.create(model(0), clients=3, rounds=1, clients_per_round=3)
    members = [await federation.enrol(experiment, key, n) for n in range(3)]
    for number, member in enumerate(members[:2]):
        await member.upload_bytes(1, model(2.0 * number))
    federation.clock.now += 61
    return experiment
