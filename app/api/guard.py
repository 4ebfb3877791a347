"""What every request passes first: who may call at all, how often, and how large a body."""

from __future__ import annotations

import ipaddress
import math

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import problem
from app.api.rate import RateLimit
from app.telemetry.logs import ERROR, tell

# A commit of `MAX_PARTS` parts takes 1.4 MB. Parsed, a body takes many times its bytes.
MAX_JSON_BYTES = 2 * 1024**2
PROBES = ("/health", "/ready")  # asked by machines that share an address with others


class Guard:
    """Plain ASGI middleware: a few microseconds a request, and bodies stay streams."""

    def __init__(
        self, app: ASGIApp, *, max_body: int, loopback_only: bool, rate: RateLimit | None = None
    ) -> None:
        self.app = app
        self.max_body = max_body
        self.loopback_only = loopback_only
        self.rate = rate

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
                raise HTTPException(413, _too_large(limit))  # FastAPI passes these on
            return message

        try:
            await self.app(scope, receive_counted, send_noted)
        except Exception as error:
            # Anything that was not foreseen: logged under the request's id, shown to nobody.
            tell("request failed", ERROR, error=error)
            if started:
                raise
            answer = problem(500, "internal-error", "Something went wrong here; it is logged.")
            await answer(scope, receive, send)
        if self.rate is not None and scope["state"].get("client_proven"):
            self.rate.proven(headers.get(b"authorization", b""))

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        """What is answered before anything is read or looked up."""
        if self.loopback_only and not _is_loopback(scope):
            return problem(
                403,
                "loopback-only",
                "This coordinator was started without FL_ADMIN_KEY, so it answers callers on its "
                "own machine only. Set one to let others in.",
            )
        if self.rate is not None and scope["path"] not in PROBES:
            wait = self.rate.take(headers.get(b"authorization", b""), _address(scope))
            if wait > 0:
                pause = max(1, math.ceil(wait))
                answer = problem(
                    429,
                    "too-many-requests",
                    f"More requests than a caller may make here. Wait {pause} s, then go on.",
                )
                answer.headers["Retry-After"] = str(pause)
                return answer
        # Parts may come in gzip (`app.api.bodies`); nothing else of a stranger's is unpacked.
        coding, part = headers.get(b"content-encoding", b"").strip().lower(), _is_part(scope)
        if coding not in ((b"", b"identity", b"gzip") if part else (b"", b"identity")):
            answer = problem(
                415,
                "unsupported-media-type",
                f"Send the body as it is{' or in gzip' if part else ''}, without another "
                "Content-Encoding.",
            )
            # RFC 9110, section 12.5.3
            answer.headers["Accept-Encoding"] = "gzip, identity" if part else "identity"
            return answer
        try:
            length = int(headers.get(b"content-length", b"0"))
        except ValueError:
            length = 0
        if length > (limit := self._limit(scope)):
            return problem(413, "too-large", _too_large(limit))
        return None

    def _limit(self, scope: Scope) -> int:
        return self.max_body if _is_part(scope) else min(self.max_body, MAX_JSON_BYTES)


def _is_part(scope: Scope) -> bool:
    """Parts are PUT; every other body is JSON."""
    return bool(scope["method"] == "PUT")


def _too_large(limit: int) -> str:
    return f"The body is too large: at most {limit} bytes. Send weights in parts."


def _address(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None


def _is_loopback(scope: Scope) -> bool:
    address = _address(scope)
    if address is None:  # a Unix socket: its file's permissions decide
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
