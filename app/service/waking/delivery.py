"""Wakes up the clients that a round waits for, each at least once if its address takes it.

A client is due while the round waits for it: for its update, or for its part of a phase. Whom it
waits for follows from the round's record, as everything does. When the experiment has ended each
client is due once more: it measures the last model, and without a schedule it would not know.

Before each try a process writes the try, by compare-and-set, so one of several calls. A process
that dies before it has written that the call arrived leaves it to a later try. A client that is
woken twice asks twice, and does no harm.

No call holds up a round: this runs in a tick, after all experiments were advanced, and on a server
beside everything else. A client that nobody reaches is one that is late.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.service.context import Context
from app.service.shielded import repeating
from app.service.waking.addresses import WakeUp, save, wake_ups_of
from app.store.port import WakeUps
from app.telemetry.logs import DEBUG, INFO, WARNING, log_event
from serverless_fl.domain.errors import NotFound
from serverless_fl.domain.experiment import Experiment, ExperimentState
from serverless_fl.domain.records import client_id
from serverless_fl.domain.round import PHASES, Round, RoundState
from serverless_fl.domain.wake_ups import DUE

MOST_TRIES = 3
FIRST_PAUSE = 30.0  # seconds between two tries; the next one is twice as long
AT_ONCE = 16


@dataclass(frozen=True)
class _Cause:
    """Why clients are due. Each phase of each attempt has another `mark`, and so has the end."""

    mark: str
    experiment_id: str
    round: int
    attempt: int
    state: str


class Waking:
    """Wakes clients up. What it remembers between calls it may forget at any moment."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._changed: set[str] = set()  # experiments that this process has written
        self._has_changed = asyncio.Event()

    def concerns(self, experiment: Experiment) -> bool:
        """Whether clients of an experiment may have to be woken up."""
        moves = experiment.ended or experiment.state is ExperimentState.RUNNING
        return self.context.wake_ups is not None and moves

    async def deliver(self, experiments: Iterable[str], until: float) -> None:
        """Call the clients that are due, and begin no call when the time is up."""
        if self.context.wake_ups is None:
            return
        calls = asyncio.Semaphore(AT_ONCE)

        async def call(due: WakeUp, cause: _Cause) -> None:
            async with calls:
                if self.context.monotonic() < until:
                    await self._try(wakers, due, cause)

        wakers = self.context.wake_ups
        for experiment_id in experiments:
            known = await wake_ups_of(self.context, experiment_id)
            if not known:
                continue
            try:  # as the tick has left it
                experiment, round_ = await self.context.repo.with_round(experiment_id)
            except NotFound:  # it was deleted meanwhile
                continue
            if not self.concerns(experiment) or (round_ is None and not experiment.ended):
                continue
            cause, now = _cause(experiment, round_), self.context.clock()
            waiting = [one for one in known if _is_due(one, cause.mark, now)]
            if experiment.ended:
                due = [one for one in waiting if one.slot not in experiment.revoked]
            else:
                silent = await self._silent(experiment, round_) if waiting else frozenset()
                due = [one for one in waiting if one.slot in silent]
            await asyncio.gather(*(call(one, cause) for one in due))

    async def _silent(self, experiment: Experiment, round_: Round | None) -> frozenset[int]:
        """The clients that the round waits for."""
        if round_ is None:
            return frozenset()
        repo, heard = self.context.repo, set(experiment.revoked)
        if round_.state in PHASES:
            heard.update(await repo.phase_slots(round_))
        elif round_.state is RoundState.COLLECTING:
            heard.update(await repo.reported_slots(round_))
            heard.update(await repo.refused_slots(experiment.id, round_.number))
        else:
            return frozenset()
        return frozenset(round_.awaited) - heard

    async def _try(self, wakers: WakeUps, due: WakeUp, cause: _Cause) -> None:
        mark, now = cause.mark, self.context.clock()
        tries = due.tries + 1 if due.due == mark else 1
        pause = FIRST_PAUSE * 2 ** (tries - 1)
        tried = await save(
            self.context, due, due=mark, tries=tries, next_at=now + pause, taken=False
        )
        if tried is None:
            return
        content = {
            "type": DUE,
            "timestamp": datetime.fromtimestamp(now, UTC).isoformat(),
            "data": {
                "experiment": cause.experiment_id,
                "client": client_id(due.slot),
                "round": cause.round,
                "attempt": cause.attempt,
                "state": cause.state,
            },
        }
        message = f"{cause.experiment_id}/wake.{due.slot}.{mark}"
        body = json.dumps(content).encode()
        fault = await wakers.call(due.address, bytes.fromhex(due.key), message, body)
        facts: dict[str, Any] = {
            "experiment": cause.experiment_id,
            "client": client_id(due.slot),
        }
        if fault:
            log_event("client not woken", WARNING, **facts, tries=tries, cause=fault)
            return
        await save(self.context, tried, taken=True)
        log_event("client woken", INFO, **facts, round=cause.round, state=cause.state)

    def notify(self, experiment_id: str) -> None:
        """Look at the experiment soon: this process has written it or a round of it."""
        self._changed.add(experiment_id)
        self._has_changed.set()

    @asynccontextmanager
    async def promptly(self, seconds: float) -> AsyncIterator[None]:
        """Wake clients as soon as this process has moved a round, while a server runs.

        Where nothing runs between two calls, ticks do it. `seconds` bound the calls of one look.
        """

        async def look() -> None:
            await self._has_changed.wait()
            self._has_changed.clear()
            changed, self._changed = self._changed, set()
            await self.deliver(changed, self.context.monotonic() + seconds)

        async with AsyncExitStack() as stack:
            if self.context.wake_ups is not None and seconds:
                self.context.repo.listeners.append(self.notify)
                # What failed, a tick tries again.
                await stack.enter_async_context(repeating(look, "wake-ups failed", DEBUG))
            yield


def _cause(experiment: Experiment, round_: Round | None) -> _Cause:
    """Why clients may be due: the end of the experiment, or what its round waits for."""
    if round_ is None or experiment.ended:
        number, attempt, state = experiment.round, 0, str(experiment.state)
        # An experiment that has got more rounds ends again.
        return _Cause(f"end.{experiment.model_version}", experiment.id, number, attempt, state)
    number, attempt, state = round_.number, round_.attempt, str(round_.state)
    return _Cause(f"{number}.{attempt}.{state}", experiment.id, number, attempt, state)


def _is_due(one: WakeUp, mark: str, now: float) -> bool:
    if one.due != mark:
        return True
    return not one.taken and one.tries < MOST_TRIES and now >= one.next_at
