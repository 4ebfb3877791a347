"""The budget of one call for aggregations: seconds, and reads of updates."""

from __future__ import annotations

from app.service.context import Context


class Allowance:
    """The reads and the seconds that are left to one call; the seconds run from now on.

    A read is a span of an update, or of the sums of a group. `faults` keeps what went wrong in
    aggregations: a tick raises them at its end, a request for a status does not.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._started = context.monotonic()
        self.reads = 0  # taken so far
        self._refused = False
        self.faults: list[Exception] = []

    @property
    def spent(self) -> bool:
        """Whether the call must begin nothing more: it has used all up, or the process stops."""
        if self._refused or self._context.tasks.ending:
            return True
        taken = self._context.monotonic() - self._started
        return self.reads > 0 and taken >= self._context.limits.step_seconds

    def take(self, reads: int) -> bool:
        """Take so many reads if they are left; say whether they were.

        The first call of `take` succeeds, unless the process stops: a call that has little time
        gets something done all the same. So no task reads more than a whole call may.
        """
        over = self.reads > 0 and self.reads + reads > self._context.limits.step_updates
        if over or self.spent:
            self._refused = True
            return False
        self.reads += reads
        return True

    def take_time(self, reads: int) -> bool:
        """As `take`, for reads that need little memory, however many there are."""
        if self.spent:
            self._refused = True
            return False
        self.reads += reads
        return True
