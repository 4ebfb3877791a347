"""Faults of the start: the server prints one sentence instead of Starlette's traceback."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class StartFaults:
    """ASGI middleware that replaces the traceback by `app.state.fault`, if the start set it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        async def say(message: Message) -> None:
            fault = getattr(scope["app"].state, "fault", None)
            if message["type"] == "lifespan.startup.failed" and fault:
                message = {**message, "message": fault}
            await send(message)

        await self.app(scope, receive, say)
