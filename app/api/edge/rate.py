"""How often a caller may call: token buckets in this process's memory.

A bucket holds `burst` requests and is refilled by `per_second` (Turner, "New directions in
communications", IEEE Communications Magazine 24(10), 1986). Each process has buckets of its own:
behind n processes, or n Lambda containers, a caller may call up to n times as often. They keep one
caller from crowding the others out of a process; they don't ration a whole deployment.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

MOST_BUCKETS = 20_000  # of each kind; the least recently used one goes, and comes back full
ADDRESS_FACTOR = 20  # a hospital's clients, or a whole simulation, come from one address


class Buckets:
    """One bucket a key. Forgetting one only ever does its caller good."""

    def __init__(
        self,
        per_second: float,
        burst: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        most: int = MOST_BUCKETS,
    ) -> None:
        self.per_second = per_second
        self.burst = burst
        self.most = most
        self._clock = clock
        self._levels: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def __contains__(self, key: object) -> bool:
        return key in self._levels

    def take(self, key: object) -> float:
        """Take one request out of a bucket; 0.0, or the seconds until there is one to take."""
        now = self._clock()
        level, then = self._levels.get(key, (self.burst, now))
        level = min(self.burst, level + (now - then) * self.per_second)
        wait = 0.0 if level >= 1 else (1 - level) / self.per_second
        self._levels[key] = (level - 1 if level >= 1 else level, now)
        self._levels.move_to_end(key)
        if len(self._levels) > self.most:
            self._levels.popitem(last=False)
        return wait


class RateLimit:
    """A bucket for each client's token, and a larger one for each address.

    A token has a bucket of its own only once it has proven to be a client's: else a flood of
    made-up tokens would have as many buckets as it likes. Until then, and for enrolment keys,
    which many share, and for callers without any, the address counts.
    """

    def __init__(
        self,
        per_second: float,
        burst: float,
        *,
        factor: float = ADDRESS_FACTOR,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clients = Buckets(per_second, burst, clock=clock)
        self.addresses = Buckets(factor * per_second, max(1, factor * burst), clock=clock)

    def take(self, secret: str | None, address: str | None) -> float:
        """0.0 where this request may pass, else the seconds to wait."""
        if secret and (key := _digest(secret)) in self.clients:
            return self.clients.take(key)
        return self.addresses.take(network(address))

    def proven(self, secret: str) -> None:
        """This was a client's token."""
        if (key := _digest(secret)) not in self.clients:
            self.clients.take(key)


def _digest(secret: str) -> bytes:
    return hashlib.blake2b(secret.encode(), digest_size=16).digest()  # no secret stays in memory


@lru_cache(MOST_BUCKETS)  # parsing an address takes longer than all the rest here
def network(address: str | None) -> str:
    """An IPv4 address, or an IPv6 address's /64: whoever has one of it has all of it."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"  # a Unix socket, or a proxy that did not say
    if found.version == 6:
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
