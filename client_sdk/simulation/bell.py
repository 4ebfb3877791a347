"""Many clients on one machine: it wakes a client when the coordinator has something for it."""

from __future__ import annotations

import asyncio
import contextlib

from serverless_fl.domain.experiment import TERMINAL
from serverless_fl.wire.turns import Done, Wait
from serverless_fl.wire.views import ExperimentView

ASLEEP_SECONDS = 60.0  # a client that nobody wakes asks after so long


class Bell:
    """Wakes the clients that a change concerns, so that a thousand need not ask every second.

    The simulation asks for the experiment's view on behalf of all clients; that request advances
    the experiment as the clients' own would.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()  # the simulation should ask for the view
        self._done: Done | None = None
        self._turn: tuple[object, ...] = ()
        self._cohort: frozenset[str] | None = frozenset()  # None: everybody
        self._awaited: set[str] = set()
        self._told: dict[str, tuple[object, ...]] = {}
        self._asleep: dict[str, asyncio.Event] = {}

    def see(self, experiment: ExperimentView) -> None:
        """Wake the clients that have something new to do, by the experiment's latest view."""
        now = experiment.current_round
        turn = (experiment.state, now and now.number, now and now.attempt)
        if turn == self._turn:
            return
        self._turn, self._cohort = turn, frozenset(now.cohort if now else ())
        self._awaited = set(self._cohort)
        if experiment.state in TERMINAL:
            self._cohort = None
            self._done = Done(
                state=experiment.state,
                reason=experiment.reason,
                model_version=experiment.model_version,
            )
        for client in list(self._asleep):
            if self._concerns(client):
                self._told[client] = turn
                self._asleep[client].set()

    def settled(self, client_id: str) -> None:
        """Note that a client has done its part of the round; the last one sets `changed`."""
        self._awaited.discard(client_id)
        if not self._awaited:
            self.changed.set()

    def _concerns(self, client_id: str) -> bool:
        return self._cohort is None or client_id in self._cohort

    async def pause(self, client_id: str, wait: Wait | None = None) -> Done | None:
        """Sleep until the client is woken, or for a minute.

        Gives how the experiment ended, if it has: the client need not ask then.
        """
        if self._concerns(client_id) and self._told.get(client_id) != self._turn:
            self._told[client_id] = self._turn  # it rang while the client was asking
            return self._done
        rung = self._asleep[client_id] = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(ASLEEP_SECONDS, wait.retry_after if wait else 0.0)):
                await rung.wait()
        del self._asleep[client_id]
        return self._done
