"""What every use case works with, and the limits that it works within."""

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

    part_bytes: int = 8 * MIB  # must stay under what the database takes as one document
    max_model_bytes: int = 1024 * MIB
    answer_bytes: int | None = None  # the most of a model in one answer, where a platform limits it
    lease_seconds: float = 30.0
    step_seconds: float = 10.0  # of aggregation within one call; the next call goes on
    step_updates: int = 256  # are read by one call to be folded: of each, what one part holds
    fold_updates: int = 64  # are folded in a row; of more, groups of so many are summed first
    drop_bytes: int = 512 * MIB  # are deleted at once; of more, some by each tick
    abandon_seconds: float = 7 * 86400.0  # an experiment may wait so long for its initial weights
    max_experiments: int = 1000  # that have not ended, at a time
    max_clients: int = 100_000  # of one experiment
    poll_min_seconds: float = 0.2
    poll_max_seconds: float = 15.0
    hold_seconds: float = 0.0  # the longest that the answer to a poll is held back


@dataclass(frozen=True, kw_only=True)
class Context:
    """The store, the clock and the dice. Tests hand in their own."""

    repo: Repository
    blobs: Blobs
    limits: Limits = field(default_factory=Limits)
    prices: Prices = field(default_factory=Prices.load)
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic  # measures how long something takes
    jitter: Callable[[], float] = random.random  # spreads polls; nothing is drawn by it
    worker: str = field(default_factory=lambda: secrets.token_hex(6))
    tasks: Tasks = field(default_factory=Tasks)

    @cached_property
    def direct(self) -> bool:
        """Whether clients move weights past the coordinator."""
        return isinstance(self.blobs, DirectBlobs)
