"""A network that loses, repeats and reorders requests, and processes that die and disagree."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.service.coordinator import Context, Coordinator, Limits, Repository
from app.store.sqlite import SQLiteBlobs, SQLiteDocuments
from app.store.sqlite_file import Database
from tests.support.dying import WRITES, Died
from tests.support.federation import ADMIN_KEY, Clock


class Inline(ThreadPoolExecutor):
    """Work is done at once, so that the same choices always give the same order of events."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


async def open_in_memory() -> tuple[SQLiteDocuments, SQLiteBlobs]:
    """The embedded store itself, on a database that takes no time."""
    database = Database(Path(":memory:"))
    database._thread = Inline(1)
    await database.open()
    return SQLiteDocuments(database), SQLiteBlobs(database)


@dataclass(frozen=True)
class Risk:
    """The chance that a write kills its process; the call before which a deadline strikes."""

    deadly: float = 0.0
    strike: int = 0


class Shaky:
    """A store as one process sees it: others come between any two calls, and it may die at any."""

    def __init__(self, inner: Any, network: Network, dice: random.Random, risk: Risk) -> None:
        self._inner, self._network, self._dice, self._risk = inner, network, dice, risk

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            # Now and then a process sleeps through all that the others do meanwhile.
            for _ in range(self._dice.randrange(3) if self._dice.random() < 0.98 else 100):
                await asyncio.sleep(0)
            self._network.calls += 1
            if self._network.calls == self._risk.strike:
                self._network.clock.now += 61
            doomed = name in WRITES and self._dice.random() < self._risk.deadly
            if doomed and self._dice.random() < 0.5:
                raise Died
            result = await method(*args, **kwargs)
            if name == "replace" and result and args[0] == "rounds":
                self._network.closes[args[1]] += args[3]["state"] == "closed"
            if doomed:
                raise Died
            return result

        return call if asyncio.iscoroutinefunction(method) else method


@dataclass
class Network:
    """Requests on their way, and the coordinators that may get them."""

    documents: SQLiteDocuments
    blobs: SQLiteBlobs
    limits: Limits
    clock: Clock = field(default_factory=Clock)
    pending: list[Callable[[Coordinator], Awaitable[None]]] = field(default_factory=list)
    delivered: int = 0
    deaths: int = 0
    calls: int = 0  # of the store, in this delivery
    closes: Counter[str] = field(default_factory=Counter)  # successful closes by round

    def send(self, request: Callable[[Coordinator], Awaitable[None]], copies: int) -> None:
        self.pending += [request] * copies

    async def deliver(self, count: int, seed: int, risk: Risk) -> None:
        """Deliver some of the pending requests at once, each to a process of its own."""
        dice, self.calls = random.Random(seed), 0
        dice.shuffle(self.pending)
        chosen, self.pending = self.pending[:count], self.pending[count:]
        work = [request(self.process(dice, risk)) for request in chosen]
        self.delivered += len(chosen)
        for result in await asyncio.gather(*work, return_exceptions=True):
            self.deaths += isinstance(result, Died)
            if isinstance(result, BaseException) and not isinstance(result, Died):
                raise result

    def process(self, dice: random.Random | None = None, risk: Risk | None = None) -> Coordinator:
        """A coordinator; under risk its clock may be ten seconds off, and it may die."""
        dice = dice or random.Random(0)
        skew = dice.choice([-10.0, 0.0, 0.0, 10.0]) if risk else 0.0
        risk = risk or Risk()
        documents, blobs = (Shaky(s, self, dice, risk) for s in (self.documents, self.blobs))
        context = Context(
            repo=Repository(documents),  # type: ignore[arg-type]
            blobs=blobs,  # type: ignore[arg-type]
            limits=self.limits,
            clock=lambda: self.clock() + skew,
            jitter=lambda: 0.5,
            worker=f"w{dice.randrange(10**6)}",
        )
        return Coordinator(context, ADMIN_KEY)
