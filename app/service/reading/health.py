"""For load balancers and monitoring: whether the store works, and how many experiments there are.

Anybody may ask, and as often as they like; so each answer is kept for some seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from app.service.context import Context
from app.store.port import STORE_OF_WEIGHTS
from serverless_fl.domain.errors import StoreUnavailable
from serverless_fl.domain.experiment import ExperimentState

READY_SECONDS = 2.0  # in which the store must answer
READY_STANDS = 1.0
CENSUS_STANDS = 10.0
MOST_COUNTED = 10_000  # experiments; of more, none are counted


class Health:
    """Answers under any load: of each kind, this process asks the store one question at a time."""

    def __init__(self, context: Context) -> None:
        self.repo = context.repo
        self.blobs = context.blobs
        self._asking, self._counting = asyncio.Lock(), asyncio.Lock()
        self._asked_at = self._counted_at = float("-inf")
        self._fault: StoreUnavailable | None = None
        self._census: dict[str, float] = {}

    async def ready(self) -> None:
        """Raise StoreUnavailable unless the database keeps a small write, and the store of weights
        is the right one, and both answer in time.
        """
        async with self._asking:
            if time.monotonic() - self._asked_at >= READY_STANDS:
                self._fault = await self._ask()
                self._asked_at = time.monotonic()
            fault = self._fault
        if fault is not None:
            raise fault.with_traceback(None)

    async def _ask(self) -> StoreUnavailable | None:
        """The fault; None if there is none."""
        asked = "The database"
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self.repo.documents.check()
                asked = STORE_OF_WEIGHTS
                await self.blobs.get("-")  # the store checks that it is the right one first
        except TimeoutError:
            return StoreUnavailable(f"{asked} did not answer in {READY_SECONDS:g} s.", store=asked)
        except StoreUnavailable as error:
            return error
        return None

    async def experiments_by_state(self) -> dict[str, float]:
        """How many experiments there are in each state; empty if there are too many to count.

        It reads what a tick reads, at most once in ten seconds. Raises StoreUnavailable.
        """
        async with self._counting:
            if time.monotonic() - self._counted_at >= CENSUS_STANDS:
                self._census = await self._count()
                self._counted_at = time.monotonic()
            return self._census

    async def _count(self) -> dict[str, float]:
        found: Counter[str] = Counter({str(state): 0 for state in ExperimentState})
        seen, after = 0, ""
        while page := await self.repo.experiments(after, 1000):
            seen += len(page)
            if seen > MOST_COUNTED:
                return {}
            found.update(str(experiment.state) for experiment in page)
            after = page[-1].id
        return dict(found)
