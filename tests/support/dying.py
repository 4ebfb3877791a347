"""Stores that fail, and processes that die at a write of their choice."""

from __future__ import annotations

from dataclasses import dataclass

from serverless_fl.domain.errors import StoreUnavailable

WRITES = frozenset({"insert", "replace", "put", "delete"})


class Died(BaseException):
    """The process is gone: no handler may catch this."""


@dataclass
class Fuse:
    """Burns down by one a write, from the first one or from the start of the aggregation."""

    left: int
    after: bool  # the death comes after the last write, not before it
    lit: bool = True


class DyingStore:
    """Passes calls on, and dies before or after its n-th write."""

    def __init__(self, inner, fuse):
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name):
        method = getattr(self._inner, name)
        if name not in WRITES:
            return method

        async def write(*args, **kwargs):
            fuse = self._fuse
            fuse.lit = fuse.lit or (args[0] == "rounds" and args[-1]["state"] == "aggregating")
            fuse.left -= fuse.lit
            if fuse.left == 0 and not fuse.after:
                raise Died
            result = await method(*args, **kwargs)
            if fuse.left == 0:
                raise Died
            return result

        return write


class Failing:
    """A store of which some calls fail while `away`."""

    def __init__(self, inner, wanted):
        self._inner, self._wanted, self.away, self.failed = inner, wanted, True, 0

    def __getattr__(self, name):
        method = getattr(self._inner, name)

        async def call(*args, **kwargs):
            if self.away and self._wanted(name, *args):
                self.failed += 1
                raise StoreUnavailable("The store is away.")
            return await method(*args, **kwargs)

        return call
