"""A bound on the parts that one caller uploads at once, because each takes megabytes of memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Scope

from serverless_fl.domain.errors import Busy

AT_ONCE = 8  # the SDK sends half as many at once


class ConcurrentParts:
    """Counts the parts in transfer of each caller: a client, or the admin, of an experiment."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.at_once = at_once
        self._callers: Counter[str] = Counter()

    @contextmanager
    def one(self, scope: Scope) -> Iterator[None]:
        """Count one part of this request's caller while the block reads it. Raises Busy."""
        known = scope["state"].get("client")  # a caller without it has proven to be the admin
        slot = known[1].slot if known else "admin"
        caller = f"{scope['path_params']['experiment_id']}/{slot}"
        if self._callers[caller] >= self.at_once:
            raise Busy(f"You send more than {self.at_once} parts at once: send fewer.")
        self._callers[caller] += 1
        try:
            yield
        finally:
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]
