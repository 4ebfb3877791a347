"""Answers that are held back until there is something to do (long polling, RFC 6202, section 2).

Whatever the number of those that wait for an experiment, one task of this process looks for them:
at once when a write of this process has touched the experiment or its round, else every second,
because the write may be another process's. Nobody who waits holds a connection of the database.
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
from serverless_fl.domain.round import Round, RoundState

CHECK_SECONDS = 1.0
MAX_HELD = 500  # of one process: each keeps a socket; who comes later is told to poll
MAX_OF_ONE = 4  # of one client: one, and what is left of connections that broke off
Turn = tuple[str, int, int]
Gone = Callable[[], Awaitable[None]]  # returns when nobody waits for the answer any more


def turn_of(experiment: Experiment, round_: Round | None) -> Turn:
    """What those who wait wait for: another state, round or attempt."""
    return experiment.state, experiment.round, round_.attempt if round_ else 0


class Hold:
    """Those who wait, of this process."""

    def __init__(self, context: Context, rounds: Rounds) -> None:
        self.context = context
        self.rounds = rounds
        self.held = 0
        self._of_one: Counter[tuple[str, int]] = Counter()  # by experiment and slot
        self._closed = False
        self._lookouts: dict[str, Lookout] = {}
        context.repo.on_change = self.ring

    @property
    def seconds(self) -> float:
        """The longest that an answer is held now; 0 where none is, or no more."""
        free = not self._closed and self.held < MAX_HELD
        return self.context.limits.hold_seconds if free else 0.0

    def has_enough(self, client: Client) -> bool:
        """Whether so many polls of this client are held that its next one is not."""
        return self._of_one[client.experiment_id, client.slot] >= MAX_OF_ONE

    def ring(self, experiment_id: str) -> None:
        """This process has written the experiment or a round of it."""
        if lookout := self._lookouts.get(experiment_id):
            lookout.bell.set()

    def close(self) -> None:
        """Answer all of them: the server is about to stop."""
        self._closed = True
        for lookout in self._lookouts.values():
            lookout.tell_all()

    async def until_other(
        self,
        experiment_id: str,
        seen: Turn,
        seconds: float,
        *,
        slot: int = 0,
        gone: Gone | None = None,
    ) -> None:
        """Wait until it is another's turn than `seen`, or the client in this slot is `gone`, for so
        many seconds at most.
        """
        lookout = self._lookouts.get(experiment_id)
        if lookout is None:
            lookout = self._lookouts[experiment_id] = Lookout(self.rounds, experiment_id)
        self.held += 1
        self._of_one[experiment_id, slot] += 1
        lookout.waiting += 1
        leaving = [asyncio.ensure_future(gone())] if gone is not None else []
        try:
            async with asyncio.timeout(seconds):
                while not self._closed and lookout.turn in (None, seen) and not lookout.failed:
                    awaited = [lookout.change(), *leaving]
                    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                    if any(left.done() for left in leaving):
                        break
        except TimeoutError:
            pass
        finally:
            for left in leaving:
                left.cancel()
            self.held -= 1
            self._of_one[experiment_id, slot] -= 1
            if not self._of_one[experiment_id, slot]:
                del self._of_one[experiment_id, slot]
            lookout.waiting -= 1
            if not lookout.waiting:
                lookout.task.cancel()
                if self._lookouts.get(experiment_id) is lookout:
                    del self._lookouts[experiment_id]


class Lookout:
    """Looks for all who wait for one experiment. `turn` is what it saw last, None before that."""

    def __init__(self, rounds: Rounds, experiment_id: str) -> None:
        self.rounds = rounds
        self.experiment_id = experiment_id
        self.turn: Turn | None = None
        self.failed = False
        self.waiting = 0
        self.bell = asyncio.Event()
        self._told: asyncio.Future[None] | None = None
        self.task = asyncio.create_task(self._look())

    def change(self) -> asyncio.Future[None]:
        """Done with the next look that finds something else; `asyncio.wait` for it."""
        if self._told is None:
            self._told = asyncio.get_running_loop().create_future()
        return self._told

    def tell_all(self) -> None:
        told, self._told = self._told, None
        if told is not None:
            told.set_result(None)

    async def _look(self) -> None:
        try:
            with ids.belonging_to(), suppress(CoordinatorError):
                while True:
                    await self._look_once()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(CHECK_SECONDS):
                            await self.bell.wait()
        finally:  # the store is away, say: they ask for themselves, and are told so
            self.failed = True
            self.tell_all()

    async def _look_once(self) -> None:
        self.bell.clear()
        experiment, round_ = await self.rounds.advance(self.experiment_id, check_sample)
        turn = turn_of(experiment, round_)
        # Between two rounds there is nothing to do yet.
        collecting = round_ is not None and round_.state is RoundState.COLLECTING
        settled = collecting or experiment.state is not ExperimentState.RUNNING
        if self.turn is None or (settled and turn != self.turn):
            self.turn = turn
            self.tell_all()
