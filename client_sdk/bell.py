"""Many clients on one machine: who among them has a reason to ask the coordinator again."""

from __future__ import annotations

import asyncio
import contextlib

from app.domain.experiment import TERMINAL
from app.wire.turns import Done, Wait
from app.wire.views import ExperimentView

ASLEEP_SECONDS = 60.0  # after which a client asks by itself


class Bell:
    """Wakes the clients that a change concerns, so that a thousand need not ask every second.

    One look at the experiment, which advances it as their questions would, tells for all of them.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()  # somebody should look
        self._done: Done | None = None
        self._turn: tuple[object, ...] = ()
        self._cohort: frozenset[str] | None = frozenset()  # None: everybody
        self._awaited: set[str] = set()
        self._told: dict[str, tuple[object, ...]] = {}
        self._asleep: dict[str, asyncio.Event] = {}

    def see(self, experiment: ExperimentView) -> None:
        """Wake whoever has something to do now that had not before."""
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
        """A client has done its part of the round; after the last one it is worth to look."""
        self._awaited.discard(client_id)
        if not self._awaited:
            self.changed.set()

    def _concerns(self, client_id: str) -> bool:
        return self._cohort is None or client_id in self._cohort

    async def pause(self, client_id: str, wait: Wait | None = None) -> Done | None:
        """Sleep until it rings for this client, or a minute. Gives how the experiment ended, which
        the client need not ask for then.
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
