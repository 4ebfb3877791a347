"""Rate limits: token buckets in this process's memory.

A bucket holds `burst` requests, and `per_second` new ones come in each second (Turner, "New
directions in communications", IEEE Communications Magazine 24(10), 1986). Each process has its own
buckets, so a caller may send n times as many requests to n processes, or to n Lambda containers.
The buckets protect a process from one greedy caller; they do not ration a whole deployment.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

MOST_BUCKETS = 20_000  # of each kind; beyond, the least recently used one is dropped
ADDRESS_FACTOR = 20  # all clients of a hospital, or of a simulation, have one address


class Buckets:
    """One bucket for each key. A dropped bucket comes back full, so its caller gains by it."""

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
        """Take one request out of a bucket: 0.0, or the seconds to wait if the bucket is empty."""
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

    A token gets a bucket of its own only after the coordinator has found its client. Otherwise a
    flood of made-up tokens would get a flood of buckets. Unknown tokens, enrolment keys (which many
    clients share) and callers without a key take from their address's bucket.
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
        """Give 0.0 if this request may pass, else the seconds to wait."""
        if secret and (key := _digest(secret)) in self.clients:
            return self.clients.take(key)
        return self.addresses.take(network(address))

    def proven(self, secret: str) -> None:
        """Give a client's token a bucket of its own."""
        if (key := _digest(secret)) not in self.clients:
            self.clients.take(key)


def _digest(secret: str) -> bytes:
    # Only the digest stays in memory, not the secret.
    return hashlib.blake2b(secret.encode(), digest_size=16).digest()


@lru_cache(MOST_BUCKETS)  # parsing an address takes longer than the rest of `take`
def network(address: str | None) -> str:
    """Give an IPv4 address, or the /64 of an IPv6 address: one holder has all of its addresses."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"  # a Unix socket, or a proxy that names no address
    if found.version == 6:
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
