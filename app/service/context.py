"""What every use case gets: the store, the clock, random numbers, and the limits of its work."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from app.service.limits import Limits
from app.service.records.repository import Repository
from app.service.shielded import Tasks
from app.store.port import Blobs, DirectBlobs, Helper, WakeUps, Webhooks
from serverless_fl.domain.prices import Prices


@dataclass(frozen=True, kw_only=True)
class Context:
    """The store, the clock and random numbers. Tests pass their own."""

    repo: Repository
    blobs: Blobs
    limits: Limits = field(default_factory=Limits)
    prices: Prices = field(default_factory=Prices.load)
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic  # for durations
    jitter: Callable[[], float] = random.random  # spreads polls; no draw of clients uses it
    worker: str = field(default_factory=lambda: secrets.token_hex(6))
    tasks: Tasks = field(default_factory=Tasks)
    webhooks: Webhooks | None = None  # of the operator
    wake_ups: WakeUps | None = None  # None: the coordinator wakes no clients
    helper: Helper | None = None  # of another operator

    @cached_property
    def direct(self) -> bool:
        """Whether clients move weights past the coordinator."""
        return isinstance(self.blobs, DirectBlobs)
