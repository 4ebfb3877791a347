"""Bounds on connections: the bytes and the time of a request, and the number of connections.

uvicorn's httptools protocol bounds none of them: a head may be endless, and a slow one may take
forever. The rules follow Apache's mod_reqtimeout and nginx's limits of headers, with one more: if
connections run short, a connection that waits for a request gives way to a new one. So a caller
that opens many connections shuts nobody out. `python -m app` starts with this protocol, like

    uvicorn app.main:app --http app.entry.server.connections:BoundedProtocol
"""

from __future__ import annotations

import asyncio
import json
import resource
from collections import OrderedDict
from functools import cache
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.edge.certificates import PEER
from app.api.edge.rate import network
from app.config import Settings

HEAD_BYTES = 32 * 1024  # for the request line and all fields
HEAD_FIELDS = 100
HEAD_SECONDS = 8.0  # from the connection, or a head's first byte, to the head's last byte
BODY_SECONDS = 15.0  # within this time a body must bring `BODY_BYTES` more, or end
BODY_BYTES = 64 * 1024
DRAIN_BYTES = 16 * 1024**2  # the most bytes of a body that come after its answer
SPARE_FILES = 100  # descriptors for the database, the logs and outgoing connections


class Places:
    """The connections of this process; if there are too many, one gives way.

    `waiting` holds the connections without a request in work, by address, the oldest first.
    """

    def __init__(self, per_address: int, most: int) -> None:
        self.per_address = per_address
        self.most = most
        self.open: set[BoundedProtocol] = set()
        self.waiting: dict[str, OrderedDict[BoundedProtocol, None]] = {}

    def enter(self, new: BoundedProtocol) -> None:
        """Add a new connection. If it is one too many, close the oldest that waits.

        The new connection itself is closed if all the others have a request in work.
        """
        self.open.add(new)
        self.wait(new)
        own = self.waiting[new.address]
        if len(own) > self.per_address:
            next(iter(own)).give_way()
        elif len(self.open) > self.most:
            fullest = max(self.waiting.values(), key=len)
            next(iter(fullest)).give_way()

    def wait(self, connection: BoundedProtocol) -> None:
        """Note that a connection has no request in work, so it may have to give way."""
        own = self.waiting.setdefault(connection.address, OrderedDict())
        own[connection] = None
        own.move_to_end(connection)

    def work(self, connection: BoundedProtocol) -> None:
        """Note that a connection has a request in work, so it keeps its place."""
        own = self.waiting.get(connection.address)
        if own is not None:
            own.pop(connection, None)
            if not own:
                del self.waiting[connection.address]

    def leave(self, connection: BoundedProtocol) -> None:
        self.work(connection)
        self.open.discard(connection)


@cache
def places() -> Places:
    """Give the places of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Places(Settings().connections_per_address, max(16, soft - SPARE_FILES))


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, with bounds on the head, the body and the waiting time."""

    address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = network(self.client[0] if self.client else None)
        self._in_head, self._in_body = True, False
        self._unparsed = self._fields = self._brought = self._drained = 0
        self._refusal: tuple[int, str, str] | None = None
        self._due = self.loop.time() + HEAD_SECONDS
        self._timer = self.loop.call_later(HEAD_SECONDS, self._check_time)
        self._places = places()
        self._places.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._places.leave(self)
        super().connection_lost(exc)

    def give_way(self) -> None:
        """Close this connection, because another one needs the place."""
        self._places.leave(self)
        self.transport.abort()

    # Callbacks of the transport and of the parser

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._unparsed += len(data)
        super().data_received(data)
        # The parser reports a field only when it is complete, so count the raw bytes here.
        if self._in_head and self._unparsed > HEAD_BYTES and not self.transport.is_closing():
            self._refusal = _LONG_HEAD
            self.send_400_response("")

    def on_message_begin(self) -> None:
        # The parser does not tell how many of the last bytes belong to this message.
        self._in_head, self._fields, self._unparsed = True, 0, max(1, self._unparsed)
        self._due = self.loop.time() + HEAD_SECONDS
        super().on_message_begin()
        # Headers of a trusted proxy change the scope's `client`, but not this.
        self.scope["state"][PEER] = self.client[0] if self.client else None

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        if self._fields > HEAD_FIELDS:
            self._refuse(_LONG_HEAD)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers) > HEAD_BYTES:
            self._refuse(_LONG_HEAD)
        self._in_head, self._in_body = False, True
        self._unparsed = self._brought = self._drained = 0
        self._due = self.loop.time() + BODY_SECONDS
        self._places.work(self)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._brought += len(body)
        if self._brought >= BODY_BYTES:
            self._brought, self._due = 0, self.loop.time() + BODY_SECONDS
        if self.cycle.response_complete:
            self._drained += len(body)
            if self._drained > DRAIN_BYTES:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._due = max(self._due, self.loop.time() + HEAD_SECONDS)
            self._places.wait(self)

    # Refusals

    def _refuse(self, refusal: tuple[int, str, str]) -> None:
        """Stop the parser: uvicorn answers its error by `send_400_response`."""
        self._refusal = refusal
        raise ValueError(refusal[1])

    def send_400_response(self, msg: str) -> None:
        self._end(self._refusal or _MALFORMED)

    def _end(self, refusal: tuple[int, str, str]) -> None:
        """Send a problem (RFC 9457), unless another answer has begun, and close the connection."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_problem(*refusal))
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # the application's own answer would come too late
            self.cycle.message_event.set()
        self.transport.close()

    def _check_time(self) -> None:
        """Close the connection if its caller is too slow; else look again later."""
        now = self.loop.time()
        at_work = self.cycle is not None and not self.cycle.response_complete
        # The caller is not slow while the application works, or leaves received bytes unread.
        if (at_work and not self._in_body) or self.flow.read_paused:
            self._due = now + (BODY_SECONDS if self._in_body else HEAD_SECONDS)
        if now < self._due:
            self._timer = self.loop.call_later(self._due - now, self._check_time)
            return
        if self._in_body and at_work:
            self._end(_SLOW_BODY)
        elif self._in_head and self._unparsed:
            self._end(_SLOW_HEAD)
        else:
            self.transport.close()


_MALFORMED = (400, "malformed-request", "The bytes are not a valid HTTP request.")
_LONG_HEAD = (
    431,
    "head-too-large",
    f"The request's head is too large: at most {HEAD_BYTES} bytes and {HEAD_FIELDS} fields.",
)
_SLOW_HEAD = (408, "too-slow", f"The request's head took more than {HEAD_SECONDS:g} s.")
_SLOW_BODY = (
    408,
    "too-slow",
    f"The request's body had fewer than {BODY_BYTES} bytes in {BODY_SECONDS:g} s: try again.",
)


def _problem(status: int, code: str, detail: str) -> bytes:
    """Write a whole HTTP answer, because the application never sees the request."""
    title = HTTPStatus(status).phrase
    body: dict[str, Any] = {"title": title, "status": status, "code": code, "detail": detail}
    content = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(content)}\r\nx-content-type-options: nosniff\r\n"
        "cache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + content
