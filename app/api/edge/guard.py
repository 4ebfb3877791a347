"""The guard: it checks a request's caller, rate, form and size before anything else reads it."""

from __future__ import annotations

import ipaddress
import math
import re

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.edge.auth import secret_of
from app.api.edge.certificates import HEADERS
from app.api.edge.errors import problem
from app.api.edge.rate import RateLimit
from app.api.edge.routing import LIST_BYTES
from app.telemetry.logs import ERROR, log_event

PROBES = ("/health", "/ready")  # no limit: load balancers ask often, from a shared address
LOOPBACK = ("127.0.0.1", "::1")
FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-real-ip")  # a proxy names its caller here
# Fields with a single value (RFC 9110, section 5.3). If one came twice, two readers of the request
# could believe different values.
SINGLE = frozenset(
    {
        *(b"authorization", b"host", b"content-length", b"content-type", b"content-encoding"),
        *(b"transfer-encoding", b"range", b"if-range", b"idempotency-key", b"last-event-id"),
        b"x-request-id",
        *HEADERS,
    }
)
_HOST = re.compile(rb"([A-Za-z0-9._-]{0,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{0,5}))?")


class Guard:
    """ASGI middleware that refuses bad requests; it takes microseconds and reads no body ahead.

    `max_body`: the most bytes of a part. `loopback_only`: refuse callers from other machines.
    `callers_known`: the server or the platform, and not the caller, gives the caller's address.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body: int,
        loopback_only: bool,
        rate: RateLimit | None = None,
        callers_known: bool = False,
    ) -> None:
        self.app = app
        self.max_body = max_body
        self.loopback_only = loopback_only
        self.rate = rate
        self.callers_known = callers_known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        seen, started, limit = 0, False, self._limit(scope)

        async def send_noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        async def receive_counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise HTTPException(413, _too_large(limit))  # FastAPI lets it reach its handler
            return message

        try:
            await self.app(scope, receive_counted, send_noted)
        except ClientDisconnect:
            return  # the caller closed the connection within its body
        except Exception as error:
            # An unforeseen error goes to the log, under the request's id, and not to the caller.
            log_event("request failed", ERROR, error=error)
            if started:
                raise
            answer = problem(
                500, "internal-error", "The coordinator failed on this request; it is logged."
            )
            await answer(scope, receive, send)
        if self.rate is not None and scope["state"].get("client_proven"):
            self.rate.proven(secret_of(scope) or "")

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        """Give the answer to a bad request; None for a good one."""
        if self.loopback_only and not _is_loopback(scope, headers):
            return problem(
                403,
                "loopback-only",
                "This coordinator was started without FL_ADMIN_KEY, so it answers only callers on "
                "its own machine. Set FL_ADMIN_KEY to let others in.",
            )
        return (
            self._limited(scope, headers)
            or _malformed(scope, headers)
            or self._body(scope, headers)
        )

    def _limited(self, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        if self.rate is None or scope["path"] in PROBES:
            return None
        wait = self.rate.take(secret_of(scope), self._address(scope, headers))
        if wait <= 0:
            return None
        pause = max(1, math.ceil(wait))
        return problem(
            429,
            "too-many-requests",
            f"You send more requests than one caller may. Wait {pause} s, then go on.",
            headers={"Retry-After": str(pause)},
        )

    def _address(self, scope: Scope, headers: dict[bytes, bytes]) -> str | None:
        """Give the caller's address; None if the caller may have chosen it.

        uvicorn believes X-Forwarded-For from its own machine without a setting. There a caller can
        choose its address, so all callers with a forwarded address share one bucket.
        """
        address = _address(scope)
        if address and not self.callers_known:
            named = headers.get(b"x-forwarded-for", b"").decode("latin-1")
            if address in (part.strip() for part in named.split(",")):
                return None
        return address

    def _body(self, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        # Parts may come in gzip (`app.api.edge.transfers`). The guard unpacks no other body.
        coding, part = headers.get(b"content-encoding", b"").strip().lower(), _is_part(scope)
        if coding not in ((b"", b"identity", b"gzip") if part else (b"", b"identity")):
            return problem(
                415,
                "unsupported-media-type",
                f"Send the body as it is{' or in gzip' if part else ''}, without another "
                "Content-Encoding.",
                # RFC 9110, section 12.5.3
                headers={"Accept-Encoding": "gzip, identity" if part else "identity"},
            )
        if int(headers.get(b"content-length", b"0")) > (limit := self._limit(scope)):
            return problem(413, "too-large", _too_large(limit))
        return None

    def _limit(self, scope: Scope) -> int:
        return self.max_body if _is_part(scope) else min(self.max_body, LIST_BYTES)


def _malformed(scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
    """Answer 400 if two readers could read the request differently; else None."""
    if len(headers) < len(scope["headers"]):
        names = [name for name, _ in scope["headers"]]
        for name in SINGLE.intersection(headers):
            if names.count(name) > 1:
                shown = name.decode().title()
                return problem(400, "repeated-header", f"The header {shown} comes twice: send one.")
    if not _is_host(headers.get(b"host", b"")):
        return problem(400, "malformed-host", "The header Host is no host with an optional port.")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 19:
        return problem(400, "malformed-length", "The header Content-Length is no number of bytes.")
    return None


def _is_host(value: bytes) -> bool:
    """Say whether a Host header is valid (RFC 9110, section 7.2), with a name of DNS or an IP."""
    found = _HOST.fullmatch(value)
    if found is None or int(found[2] or 0) > 65_535:
        return False
    if found[1].startswith(b"["):
        try:
            ipaddress.IPv6Address(found[1][1:-1].decode())
        except ValueError:
            return False
    return True


def _is_part(scope: Scope) -> bool:
    """Say whether the body is a part: clients PUT parts, and every other body is JSON."""
    return bool(scope["method"] == "PUT")


def _too_large(limit: int) -> str:
    return f"The body is too large: at most {limit} bytes. Send weights in parts."


def _address(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None


def _is_loopback(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Say whether the caller is on this machine, and not behind a proxy on this machine."""
    return _address(scope) in LOOPBACK and not any(name in headers for name in FORWARDED)
