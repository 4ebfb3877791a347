"""What every request passes first: an id, a limit on its body, and who may call at all."""

from __future__ import annotations

import ipaddress
import logging
import re
import secrets

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import problem

log = logging.getLogger("app")
_REQUEST_ID = re.compile(rb"^[A-Za-z0-9_.-]{1,64}$")


class Guard:
    """Plain ASGI middleware: a few microseconds a request, and bodies stay streams."""

    def __init__(self, app: ASGIApp, *, max_body: int, loopback_only: bool) -> None:
        self.app = app
        self.max_body = max_body
        self.loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        seen, started = 0, False
        request_id = given if _REQUEST_ID.match(given) else secrets.token_hex(8).encode()

        async def send_with_id(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        if self.loopback_only and not _is_loopback(scope):
            refusal = problem(
                403,
                "loopback-only",
                "This coordinator was started without FL_ADMIN_KEY, so it answers callers on its "
                "own machine only. Set one to let others in.",
            )
            await refusal(scope, receive, send_with_id)
            return
        try:
            length = int(headers.get(b"content-length", b"0"))
        except ValueError:
            length = 0
        if length > self.max_body:
            refusal = problem(413, "too-large", _too_large(self.max_body))
            await refusal(scope, receive, send_with_id)
            return

        async def receive_counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_body:
                raise HTTPException(413, _too_large(self.max_body))  # FastAPI passes these on
            return message

        try:
            await self.app(scope, receive_counted, send_with_id)
        except Exception:
            # Anything that was not foreseen: logged under the request's id, shown to nobody.
            log.exception("request %s failed", request_id.decode())
            if started:
                raise
            answer = problem(500, "internal-error", "Something went wrong here; it is logged.")
            await answer(scope, receive, send_with_id)


def _too_large(limit: int) -> str:
    return f"The body is too large: at most {limit} bytes. Send weights in parts."


def _is_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    if client is None:  # a Unix socket: its file's permissions decide
        return True
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
