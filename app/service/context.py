"""What every use case gets: the store, the clock, random numbers, and the limits of its work."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from app.service.records.repository import Repository
from app.service.shielded import Tasks
from app.store.port import Blobs, DirectBlobs
from serverless_fl.domain.prices import Prices

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    part_bytes: int = 8 * MIB  # must be smaller than the database's largest document
    max_model_bytes: int = 1024 * MIB
    answer_bytes: int | None = None  # of a model in one answer, where the platform limits answers
    lease_seconds: float = 30.0
    step_seconds: float = 10.0  # one call aggregates for so long; the next call goes on
    step_updates: int = 256  # one call reads a span of so many updates to sum them
    group_size: int = 64  # updates are summed in groups of so many, then the groups' sums
    drop_bytes: int = 512 * MIB  # a call deletes so much at once; ticks delete more, bit by bit
    abandon_seconds: float = 7 * 86400.0  # an experiment waits so long for its initial weights
    max_experiments: int = 1000  # so many may be open at a time
    max_clients: int = 100_000  # of one experiment
    poll_min_seconds: float = 0.2
    poll_max_seconds: float = 15.0
    hold_seconds: float = 0.0  # a poll's answer may be held back for so long


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

    @cached_property
    def direct(self) -> bool:
        """Whether clients move weights past the coordinator."""
        return isinstance(self.blobs, DirectBlobs)
