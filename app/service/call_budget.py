"""The budget of one call for aggregations: seconds, and reads of updates."""

from __future__ import annotations

from app.service.context import Context


class CallBudget:
    """The seconds and the reads that one call has left. The seconds begin with the object.

    A read is a span of an update, or of a group's sums. `faults` collects the errors of
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
        """Whether the call must begin nothing more: its budget is used up, or the process stops."""
        if self._refused or self._context.tasks.ending:
            return True
        taken = self._context.monotonic() - self._started
        return self.reads > 0 and taken >= self._context.limits.step_seconds

    def take(self, reads: int) -> bool:
        """Take these reads if the call has them left; return whether it had.

        The first `take` succeeds unless the process stops, so a call with little time makes
        progress, too. Therefore no task may need more reads than a whole call has.
        """
        over = self.reads > 0 and self.reads + reads > self._context.limits.step_updates
        if over or self.spent:
            self._refused = True
            return False
        self.reads += reads
        return True

    def take_time(self, reads: int) -> bool:
        """Take any number of reads that need little memory, if the call has seconds left."""
        if self.spent:
            self._refused = True
            return False
        self.reads += reads
        return True
