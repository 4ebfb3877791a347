"""A start that fails says why in one sentence, where Starlette hands the server a traceback."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class FaultsInASentence:
    """Plain ASGI middleware. `app.state.fault` is the sentence, where the start left one."""

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
