"""Wakes a simulation's clients when the coordinator has something for them to do.

A thousand clients on one machine need not ask the coordinator every second. The simulation asks
for the experiment's view on behalf of all of them; that request advances the experiment as the
clients' own requests would.
"""

from __future__ import annotations

import asyncio
import contextlib

from serverless_fl.domain.experiment import TERMINAL
from serverless_fl.wire.turns import Done, Wait
from serverless_fl.wire.views import ExperimentView

SLEEP_SECONDS = 60.0  # a client asks the coordinator after so long even if nothing wakes it


class Waker:
    """Lets clients sleep, and wakes those that a change of the experiment concerns."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()  # the simulation should ask for the view
        self._done: Done | None = None
        self._turn: tuple[object, ...] = ()
        self._cohort: frozenset[str] | None = frozenset()  # None: all clients
        self._busy: set[str] = set()  # clients of the cohort whose updates are still to come
        self._woken_for: dict[str, tuple[object, ...]] = {}
        self._asleep: dict[str, asyncio.Event] = {}

    def update(self, experiment: ExperimentView) -> None:
        """Wake the clients that have something new to do, by the experiment's latest view."""
        now = experiment.current_round
        turn: tuple[object, ...] = (experiment.state, now and now.number, now and now.attempt)
        if now is not None and now.masked:
            turn = (*turn, now.state)
        if turn == self._turn:
            return
        cohort = now.awaited if now is not None and now.masked else now.cohort if now else ()
        self._turn, self._cohort = turn, frozenset(cohort)
        self._busy = set(self._cohort)
        if experiment.state in TERMINAL:
            self._cohort = None
            self._done = Done(
                state=experiment.state,
                reason=experiment.reason,
                model_version=experiment.model_version,
            )
        for client in list(self._asleep):
            if self._concerns(client):
                self._woken_for[client] = turn
                self._asleep[client].set()

    def finished(self, client_id: str) -> None:
        """Note that a client has done its part of the round; the last one sets `changed`."""
        self._busy.discard(client_id)
        if not self._busy:
            self.changed.set()

    async def sleep(self, client_id: str, wait: Wait | None = None) -> Done | None:
        """Sleep until the client is woken, or for a minute.

        Gives how the experiment ended, if it has: the client need not ask then.
        """
        if self._concerns(client_id) and self._woken_for.get(client_id) != self._turn:
            self._woken_for[client_id] = self._turn  # the turn changed while the client was awake
            return self._done
        woken = self._asleep[client_id] = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(SLEEP_SECONDS, wait.retry_after if wait else 0.0)):
                await woken.wait()
        del self._asleep[client_id]
        return self._done

    def _concerns(self, client_id: str) -> bool:
        return self._cohort is None or client_id in self._cohort
