"""The headers of every answer: the request's id and the security headers."""

from __future__ import annotations

import random
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.edge.headers import security_headers
from app.telemetry import ids

_GIVEN = re.compile(rb"^[A-Za-z0-9_.-]{1,64}$")


class Envelope:
    """ASGI middleware around `Observed`, CORS and the guard, whose answers get the headers, too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        ident = given if _GIVEN.match(given) else b"%016x" % random.getrandbits(64)  # nosec B311

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", ident),
                    *(header for header in security_headers(scope) if header[0] not in own),
                ]
            await send(message)

        with ids.belonging_to(ident.decode()):
            await self.app(scope, receive, send_with_headers)
