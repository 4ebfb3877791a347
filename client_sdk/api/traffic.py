"""Counts what a client's connections moved: bytes, requests, and the coordinator's own time."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import httpx

_SIZE = 1024  # bytes; sizes of requests are kept as rounded up to it
_DURATION = re.compile(r"(?:^|,)\s*total\s*;[^,]*?\bdur=\"?([0-9]{1,9}(?:\.[0-9]{1,9})?)")


@dataclass
class Traffic:
    """Bytes of bodies moved by a client and those that share its connections.

    `api_requests` and `api_seconds` leave out what went to a blob store by signed URLs. The seconds
    are the coordinator's own (Server-Timing) where it gave them for every request, else those until
    the answer arrived.
    """

    sent: int = 0
    received: int = 0
    requests: int = 0
    retries: int = 0
    api_requests: int = 0
    wall_seconds: float = 0.0
    server_seconds: float = 0.0
    timed: int = 0
    sizes: Counter[int] = field(default_factory=Counter)

    def add(self, sent: int, received: int) -> None:
        self.requests += 1
        self.sent += sent
        self.received += received

    def add_api(self, response: httpx.Response, bytes_moved: int, seconds: float) -> None:
        self.api_requests += 1
        self.wall_seconds += seconds
        self.sizes[-(-bytes_moved // _SIZE)] += 1
        own = _server_seconds(response)
        if own is not None:
            self.timed += 1
            self.server_seconds += own

    @property
    def timed_by_server(self) -> bool:
        return 0 < self.timed == self.api_requests

    @property
    def api_seconds(self) -> float:
        return self.server_seconds if self.timed_by_server else self.wall_seconds

    def metered_calls(self, unit: int) -> int:
        """Requests of the API, each counted anew for every `unit` bytes that it moved."""
        return sum(max(1, -(-size * _SIZE // unit)) * n for size, n in self.sizes.items())


def _server_seconds(response: httpx.Response) -> float | None:
    """The coordinator's own time (Server-Timing's `total`, there in milliseconds)."""
    found = _DURATION.search(response.headers.get("server-timing", ""))
    return float(found[1]) / 1000 if found else None
