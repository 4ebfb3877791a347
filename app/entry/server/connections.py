"""What a connection may take before it holds a whole request: bytes, time, and a place.

uvicorn bounds none of it under httptools: a head may go on without end, and nobody waits for it
in vain. The rules are those of Apache's mod_reqtimeout and of nginx's limits of headers, with one
more: where connections run short, those that wait for a request give way to new ones, so that
a caller that opens many of them shuts nobody out.

    uvicorn app.main:app --http app.entry.server.connections:BoundedProtocol

is what `python -m app` starts.
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

from app.api.edge.rate import network
from app.config import Settings

HEAD_BYTES = 32 * 1024  # the request line and all fields
HEAD_FIELDS = 100
HEAD_SECONDS = 8.0  # from the connection, or from a head's first byte, to the head's last
BODY_SECONDS = 15.0  # in which a body brings `BODY_BYTES` more, or ends
BODY_BYTES = 64 * 1024
DRAIN_BYTES = 16 * 1024**2  # of a body that was answered before it was read
SPARE_FILES = 100  # of the process's descriptors: for the database, logs and outgoing connections


class Places:
    """The connections of this process, and who gives way where there are too many.

    `waiting` holds, by address and oldest first, the connections without a request in work.
    """

    def __init__(self, per_address: int, most: int) -> None:
        self.per_address = per_address
        self.most = most
        self.open: set[BoundedProtocol] = set()
        self.waiting: dict[str, OrderedDict[BoundedProtocol, None]] = {}

    def enter(self, new: BoundedProtocol) -> None:
        """Give a new connection its place; it goes itself where every other one is at work."""
        self.open.add(new)
        self.wait(new)
        own = self.waiting[new.address]
        if len(own) > self.per_address:
            next(iter(own)).give_way()
        elif len(self.open) > self.most:
            fullest = max(self.waiting.values(), key=len)
            next(iter(fullest)).give_way()

    def wait(self, connection: BoundedProtocol) -> None:
        """It has no request in work: it may be asked to give way."""
        own = self.waiting.setdefault(connection.address, OrderedDict())
        own[connection] = None
        own.move_to_end(connection)

    def work(self, connection: BoundedProtocol) -> None:
        """It has a request in work, and keeps its place."""
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
    """Those of this process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Places(Settings().connections_per_address, max(16, soft - SPARE_FILES))


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, with an end to all that a caller may leave open."""

    address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = network(self.client[0] if self.client else None)
        self._in_head, self._in_body = True, False
        self._unparsed = self._fields = self._brought = self._drained = 0
        self._refusal: tuple[int, str, str] | None = None
        self._due = self.loop.time() + HEAD_SECONDS
        self._timer = self.loop.call_later(HEAD_SECONDS, self._look)
        self._places = places()
        self._places.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._places.leave(self)
        super().connection_lost(exc)

    def give_way(self) -> None:
        """Close, as another connection needs the place."""
        self._places.leave(self)
        self.transport.abort()

    # What is read

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._unparsed += len(data)
        super().data_received(data)
        # The parser shows a field only when it is whole.
        if self._in_head and self._unparsed > HEAD_BYTES and not self.transport.is_closing():
            self._refusal = _LONG_HEAD
            self.send_400_response("")

    def on_message_begin(self) -> None:
        # Of what came with it, nothing says how much belongs to it.
        self._in_head, self._fields, self._unparsed = True, 0, max(1, self._unparsed)
        self._due = self.loop.time() + HEAD_SECONDS
        super().on_message_begin()

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

    # What is refused

    def _refuse(self, refusal: tuple[int, str, str]) -> None:
        """Inside the parser: its error ends in `send_400_response`."""
        self._refusal = refusal
        raise ValueError(refusal[1])

    def send_400_response(self, msg: str) -> None:
        self._end(self._refusal or _MALFORMED)

    def _end(self, refusal: tuple[int, str, str]) -> None:
        """A problem (RFC 9457), and the connection's end; only the end where an answer is on."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_problem(*refusal))
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # the application's own answer comes too late
            self.cycle.message_event.set()
        self.transport.close()

    def _look(self) -> None:
        """Close what has waited too long; come again otherwise."""
        now = self.loop.time()
        at_work = self.cycle is not None and not self.cycle.response_complete
        # While the application works, or does not take what is there, the caller is not waited for.
        if (at_work and not self._in_body) or self.flow.read_paused:
            self._due = now + (BODY_SECONDS if self._in_body else HEAD_SECONDS)
        if now < self._due:
            self._timer = self.loop.call_later(self._due - now, self._look)
            return
        if self._in_body and at_work:
            self._end(_SLOW_BODY)
        elif self._in_head and self._unparsed:
            self._end(_SLOW_HEAD)
        else:
            self.transport.close()


_MALFORMED = (400, "malformed-request", "This is no HTTP request that can be read.")
_LONG_HEAD = (
    431,
    "head-too-large",
    f"The request's head is too large: at most {HEAD_BYTES} bytes and {HEAD_FIELDS} fields.",
)
_SLOW_HEAD = (408, "too-slow", f"The request's head took more than {HEAD_SECONDS:g} s.")
_SLOW_BODY = (
    408,
    "too-slow",
    f"The request's body brought fewer than {BODY_BYTES} bytes in {BODY_SECONDS:g} s: try again.",
)


def _problem(status: int, code: str, detail: str) -> bytes:
    """A whole answer, for what never becomes a request of the application."""
    title = HTTPStatus(status).phrase
    body: dict[str, Any] = {"title": title, "status": status, "code": code, "detail": detail}
    content = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(content)}\r\nx-content-type-options: nosniff\r\n"
        "cache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + content
