"""Delivers notices to the operator's webhooks, each at least once if its address takes it.

A tick looks which notices are not delivered yet. Before each try it writes the number of tries and
the time of the next one, by insert-if-absent or compare-and-set, so of several processes one sends.
A process that dies before it has written that a notice was taken leaves it to a later try, and the
receiver gets it twice, with the same id.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from app.service.context import Context
from app.service.notices.notice import Notice, notices_of
from app.store.port import Body, Webhooks
from app.telemetry.logs import WARNING, log_event
from serverless_fl.domain.errors import NotFound
from serverless_fl.domain.experiment import Experiment

T = TypeVar("T")
KIND = "notices"
MOST_TRIES = 12  # within about 27 hours
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 6 * 3600.0  # seconds between tries; each is twice the last
RECENT = 3 * 86400.0  # seconds; a coordinator that gets a webhook later does not tell old news
_REMEMBERED = 10_000


class Notices:
    """Notices of many experiments. It may forget at any moment what it remembers between calls."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._settled: set[str] = set()  # what needs no look any more, by the key of its record
        self._over: set[tuple[str, int]] = set()  # ended experiments without any; id and revision

    def concerns(self, experiment: Experiment) -> bool:
        """Whether an experiment may have a notice that is not delivered yet."""
        if self.context.webhooks is None or experiment.deleted_at is not None:
            return False
        if experiment.ended_at is None:
            return True
        is_over = (experiment.id, experiment.revision) in self._over
        return self._is_recent(experiment.ended_at) and not is_over

    async def deliver(self, experiments: Iterable[str], until: float) -> None:
        """Send the notices of these experiments that are due, until the time is up.

        All addresses are called side by side, and each gets at least one message, if one is due.
        """
        hooks = self.context.webhooks
        if hooks is None:
            return
        ended, found = list[tuple[Experiment, list[Notice]]](), list[Notice]()
        for experiment_id in experiments:
            try:  # as the tick has left it
                experiment, round_ = await self.context.repo.with_round(experiment_id)
            except NotFound:  # it was deleted meanwhile
                continue
            own = [one for one in notices_of(experiment, round_) if self._is_recent(one.at)]
            found += own
            if experiment.ended:
                ended.append((experiment, own))
        await asyncio.gather(*(self._deliver(hooks, url, found, until) for url in hooks.urls))
        for experiment, own in ended:
            if all(_key(one, url) in self._settled for one in own for url in hooks.urls):
                self._remember(self._over, (experiment.id, experiment.revision))

    def _is_recent(self, at: float) -> bool:
        return self.context.clock() - at < RECENT

    async def _deliver(
        self, hooks: Webhooks, url: str, notices: Sequence[Notice], until: float
    ) -> None:
        for notice in notices:
            sent = await self._try(hooks, url, notice)
            if sent and self.context.monotonic() >= until:
                return

    async def _try(self, hooks: Webhooks, url: str, notice: Notice) -> bool:
        """Send a notice if it is its time; return whether that was so."""
        documents = self.context.repo.documents
        key = _key(notice, url)
        if key in self._settled:
            return False
        found = await documents.get(KIND, key)
        tries = 0 if found is None else found.body["tries"]
        if found is not None and (found.body["taken"] or tries >= MOST_TRIES):
            self._remember(self._settled, key)
            return False
        now = self.context.clock()
        if found is not None and now < found.body["next_at"]:
            return False
        pause = min(FIRST_PAUSE * 2**tries, LONGEST_PAUSE)
        body: Body = {"tries": tries + 1, "next_at": now + pause, "taken": False}
        if found is None:
            is_ours = await documents.insert(KIND, key, body)
        else:
            is_ours = await documents.replace(KIND, key, found.revision, body)
        if not is_ours:
            return False
        fault = await hooks.post(url, notice.id, notice.body)
        facts: dict[str, Any] = {
            "notice": notice.id,
            "address": hooks.urls.index(url) + 1,
            "tries": tries + 1,
        }
        if fault:
            last = tries + 1 >= MOST_TRIES
            event = "webhook given up" if last else "webhook not delivered"
            log_event(event, WARNING, **facts, cause=fault)
            return True
        revision = 1 if found is None else found.revision + 1
        if await documents.replace(KIND, key, revision, {**body, "taken": True}):
            self._remember(self._settled, key)
        log_event("webhook delivered", **facts)
        return True

    def _remember(self, known: set[T], one: T) -> None:
        if len(known) >= _REMEMBERED:
            known.clear()
        known.add(one)


def _key(notice: Notice, url: str) -> str:
    """The key of the record of a notice's tries at an address."""
    return f"{notice.id}/{hashlib.sha256(url.encode()).hexdigest()[:12]}"
