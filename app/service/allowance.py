"""What one call may do of aggregations: it has seconds, and so much memory and time for updates."""

from __future__ import annotations

from app.service.context import Context


class Allowance:
    """Reads of updates, and seconds from now on, that are left to one call.

    A read is what a part of an update holds, or the sums of a group there. `faults` are those
    of the aggregations: a tick raises them at its end, a request for a status does not.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._started = context.monotonic()
        self.reads = 0  # that were allowed
        self._refused = False
        self.faults: list[Exception] = []

    @property
    def spent(self) -> bool:
        """Whether nothing more is to be begun: it is used up, or the process stops."""
        if self._refused or self._context.tasks.ending:
            return True
        taken = self._context.monotonic() - self._started
        return self.reads > 0 and taken >= self._context.limits.step_seconds

    def take(self, reads: int) -> bool:
        """Say whether there is so much left, and if so take it.

        The first taking succeeds, unless the process stops: a call whose time is short gets
        something done all the same. So cells are cut no larger than all that a call may read.
        """
        over = self.reads > 0 and self.reads + reads > self._context.limits.step_updates
        if over or self.spent:
            self._refused = True
            return False
        self.reads += reads
        return True

    def take_time(self, reads: int) -> bool:
        """As `take`, for reads that need little memory however many they are."""
        if self.spent:
            self._refused = True
            return False
        self.reads += reads
        return True
