"""What one call may do of aggregations: it has seconds, and so much memory and time for updates."""

from __future__ import annotations

from app.service.context import Context


class Allowance:
    """Reads of updates, and seconds from now on, that are left to one call.

    A read is what a part of an update holds, or the sums of a group there.
    """

    def __init__(self, context: Context) -> None:
        self._clock, self._limits = context.clock, context.limits
        self._started = context.clock()
        self.reads = 0  # that were allowed

    def take(self, reads: int) -> bool:
        """Say whether there is so much left, and if so take it.

        The first taking always succeeds: a call whose time is short gets something done all the
        same. So cells are cut no larger than all that a call may read.
        """
        if self.reads and (
            self._clock() - self._started >= self._limits.step_seconds
            or self.reads + reads > self._limits.step_updates
        ):
            return False
        self.reads += reads
        return True
