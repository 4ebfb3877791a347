"""The part that the serverless entries share: an open application and its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.edge.errors import problem
from app.config import Settings
from app.entry import cold_start
from app.main import create_app
from app.telemetry import ids, logs
from serverless_fl import tracing
from serverless_fl.domain.errors import AnswerTooLarge


def platform_settings(settings: Settings, call_bytes: int) -> dict[str, Any]:
    """Give the settings that a serverless platform needs to be different.

    One call carries at most `call_bytes` bytes of weights in each direction, and the platform runs
    nothing between two calls.
    """
    return {
        "part_bytes": min(settings.part_bytes, call_bytes),
        "answer_bytes": min(settings.answer_bytes or call_bytes, call_bytes),
        "tick_seconds": 0,  # the platform's schedule sends the ticks
        "live": False,  # the platform sends an answer when it is complete
        "hold_seconds": 0,  # a call that waits costs money
        "metrics": "off",  # no scraper reaches each container
    }


class BoundedAnswers:
    """ASGI middleware: it replaces an answer of more than `most` bytes by a problem (413).

    Otherwise the platform would fail the call with a status that explains nothing. The middleware
    collects an answer until it is complete, as Mangum does in any case.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        await self.app(scope, receive, hold)
        size = sum(len(message.get("body", b"")) for message in held)
        if size > self.most:
            held = _refusal(held[0], size, self.most)
        for message in held:
            await send(message)


_OF_THE_BODY = (b"content-type", b"content-length", b"content-encoding", b"content-range", b"etag")


def _refusal(start: Message, size: int, most: int) -> list[Message]:
    """Give the problem, with the headers of the answer that do not describe its body."""
    answer = problem(
        413,
        AnswerTooLarge.code,
        f"The answer has {size} bytes, but this platform sends at most {most}: ask for less at a "
        "time.",
    )
    kept = [(name, value) for name, value in start["headers"] if name not in _OF_THE_BODY]
    headers = [*answer.raw_headers, *kept]
    return [
        {"type": "http.response.start", "status": answer.status_code, "headers": headers},
        {"type": "http.response.body", "body": answer.body},
    ]


class Container:
    """An open application and its event loop, for as long as the platform keeps the process.

    `http` answers requests. `close` is called only when another container takes its place, because
    serverless platforms end a process without notice. If the application cannot be opened, the
    constructor leaves nothing open.
    """

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        try:
            self._open(settings)
        except BaseException:
            self._loop.close()  # it has three descriptors, and the platform tries many times
            raise

    def _open(self, settings: Settings) -> None:
        self.enter()
        # alone: the handlers of the platform's runtime would write every line a second time.
        logs.configure(settings.log_format, settings.log_level, alone=True)
        self.app = create_app(settings, callers_known=True)
        self.http = (
            BoundedAnswers(self.app, settings.answer_bytes) if settings.answer_bytes else self.app
        )
        # The attribute keeps the lifespan; as garbage it would end, and close the application.
        self._lifespan = self.app.router.lifespan_context(self.app)
        self._loop.run_until_complete(self._lifespan.__aenter__())
        cold_start.end()

    def close(self) -> None:
        """Close the database and the loop. Traces stay on for the next container."""
        self.enter()
        coordinator = self.app.state.coordinator
        self._loop.run_until_complete(coordinator.close())
        self._loop.run_until_complete(coordinator.context.repo.documents.close())
        self._loop.close()

    def enter(self) -> None:
        """Make this loop the current one, because the database's connections belong to it."""
        asyncio.set_event_loop(self._loop)

    def tick(self) -> dict[str, list[str]]:
        """Advance the open experiments; give the answer to a scheduled event."""
        with ids.belonging_to():
            return {"advanced": self._loop.run_until_complete(self.app.state.coordinator.tick())}

    @contextmanager
    def call(self) -> Iterator[None]:
        """Wrap a call: make the loop the current one, and send the traces at the end."""
        self.enter()
        try:
            yield
        finally:
            tracing.flush()
