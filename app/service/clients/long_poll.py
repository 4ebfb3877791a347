"""Long polls: an answer is sent only when there is something to do (RFC 6202, section 2).

For each experiment that clients wait for, one task of this process reads the store: at once after
this process has written the experiment or its round, and every second, because another process may
have written it. A client that waits holds no connection to the database.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

from app.service.context import Context
from app.service.rounds.machine import Rounds
from app.service.rounds.progress import check_sample
from app.telemetry import ids
from serverless_fl.domain.errors import CoordinatorError
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.records import Client
from serverless_fl.domain.round import PHASES, Round, RoundState

CHECK_SECONDS = 1.0
MAX_WAITING = 500  # in one process, as each keeps a socket; later clients are told to poll
MAX_OF_ONE = 4  # of one client: one, and what is left of connections that broke off
State = tuple[str, int, int, str]
Gone = Callable[[], Awaitable[None]]  # returns when the client has closed its connection


def state_of(experiment: Experiment, round_: Round | None) -> State:
    """The state, the round and the attempt, and the phase of a round under secure aggregation: a
    client waits until one of them changes.
    """
    phase = str(round_.state) if round_ and round_.masked else ""
    return experiment.state, experiment.round, round_.attempt if round_ else 0, phase


class LongPolls:
    """The long polls of this process."""

    def __init__(self, context: Context, rounds: Rounds) -> None:
        self.context = context
        self.rounds = rounds
        self.waiting = 0  # long polls now
        self._of_one: Counter[tuple[str, int]] = Counter()  # by experiment and slot
        self._closed = False
        self._watchers: dict[str, Watcher] = {}
        context.repo.listeners.append(self.notify)

    @property
    def seconds(self) -> float:
        """How long the next long poll may last; 0 if this process takes no more of them."""
        free = not self._closed and self.waiting < MAX_WAITING
        return self.context.limits.hold_seconds if free else 0.0

    def has_enough(self, client: Client) -> bool:
        """Whether this client has as many long polls as one client may have."""
        return self._of_one[client.experiment_id, client.slot] >= MAX_OF_ONE

    def notify(self, experiment_id: str) -> None:
        """Look at the experiment now: this process has written it or a round of it."""
        if watcher := self._watchers.get(experiment_id):
            watcher.written.set()

    def close(self) -> None:
        """End all of them: the server is about to stop."""
        self._closed = True
        for watcher in self._watchers.values():
            watcher.wake_all()

    async def wait(
        self,
        experiment_id: str,
        seen: State,
        seconds: float,
        *,
        slot: int = 0,
        gone: Gone | None = None,
    ) -> None:
        """Return when the experiment is in another state than `seen`, when the client in this slot
        is `gone`, or after so many seconds.
        """
        watcher = self._watchers.get(experiment_id)
        if watcher is None:
            watcher = self._watchers[experiment_id] = Watcher(self.rounds, experiment_id)
        self.waiting += 1
        self._of_one[experiment_id, slot] += 1
        watcher.waiting += 1
        leaving = [asyncio.ensure_future(gone())] if gone is not None else []
        try:
            async with asyncio.timeout(seconds):
                while not self._closed and watcher.state in (None, seen) and not watcher.failed:
                    awaited = [watcher.change(), *leaving]
                    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                    if any(left.done() for left in leaving):
                        break
        except TimeoutError:
            pass
        finally:
            for left in leaving:
                left.cancel()
            self.waiting -= 1
            self._of_one[experiment_id, slot] -= 1
            if not self._of_one[experiment_id, slot]:
                del self._of_one[experiment_id, slot]
            watcher.waiting -= 1
            if not watcher.waiting:
                watcher.task.cancel()
                if self._watchers.get(experiment_id) is watcher:
                    del self._watchers[experiment_id]


class Watcher:
    """Watches one experiment for all its long polls. `state` is what it has seen last."""

    def __init__(self, rounds: Rounds, experiment_id: str) -> None:
        self.rounds = rounds
        self.experiment_id = experiment_id
        self.state: State | None = None
        self.failed = False
        self.waiting = 0
        self.written = asyncio.Event()
        self._change: asyncio.Future[None] | None = None
        self.task = asyncio.create_task(self._watch())

    def change(self) -> asyncio.Future[None]:
        """A future for `asyncio.wait`: it is done when the state has changed."""
        if self._change is None:
            self._change = asyncio.get_running_loop().create_future()
        return self._change

    def wake_all(self) -> None:
        change, self._change = self._change, None
        if change is not None:
            change.set_result(None)

    async def _watch(self) -> None:
        try:
            with ids.belonging_to(), suppress(CoordinatorError):
                while True:
                    await self._check()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(CHECK_SECONDS):
                            await self.written.wait()
        finally:  # if the store is away, each client reads it by itself and gets the error
            self.failed = True
            self.wake_all()

    async def _check(self) -> None:
        self.written.clear()
        experiment, round_ = await self.rounds.advance(self.experiment_id, check_sample)
        state = state_of(experiment, round_)
        # Between two rounds there is nothing to do yet.
        waiting = round_ is not None and round_.state in PHASES | {RoundState.COLLECTING}
        settled = waiting or experiment.state is not ExperimentState.RUNNING
        if self.state is None or (settled and state != self.state):
            self.state = state
            self.wake_all()
