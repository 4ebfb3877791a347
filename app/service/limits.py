"""The limits that the use cases work within. `app.config` lets an operator set most of them."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes in bytes, times in seconds unless the name says otherwise.

    Each default stands here only, and a setting of the same name takes its default from this class.
    `hold_seconds` alone has another default as a setting.
    """

    part_bytes: int = 8 * MIB  # must be smaller than the database's largest document
    max_model_bytes: int = 1024 * MIB
    answer_bytes: int | None = None  # of a model in one answer, where the platform limits answers
    lease_seconds: float = 30.0
    step_seconds: float = 10.0  # one call aggregates for so long; the next call goes on
    step_updates: int = 256  # one call reads a span of so many updates to sum them
    step_masks: int = 4 << 30  # bytes of masks that a task takes off a sum: 1.5 s on one core
    group_size: int = 64  # updates are summed in groups of so many, then the groups' sums
    drop_bytes: int = 512 * MIB  # a call deletes so much at once; ticks delete more, bit by bit
    abandon_days: float = 7.0  # an experiment waits so long for its initial weights
    max_experiments: int = 1000  # so many may be open at a time
    max_clients: int = 100_000  # of one experiment
    poll_min_seconds: float = 0.2
    poll_max_seconds: float = 15.0
    hold_seconds: float = 0.0  # of a long poll; 0: none. As a setting it is 20
