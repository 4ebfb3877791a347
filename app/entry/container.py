"""What the serverless entries share: the application, opened once, on a loop that stays."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.edge.errors import problem
from app.config import Settings
from app.main import create_app
from app.telemetry import ids, logs, trace
from serverless_fl.domain.errors import AnswerTooLarge


def within(settings: Settings, call_bytes: int) -> dict[str, Any]:
    """What of the settings must change where a call carries `call_bytes` of weights either way,
    and nothing runs between two calls.
    """
    return {
        "part_bytes": min(settings.part_bytes, call_bytes),
        "answer_bytes": min(settings.answer_bytes or call_bytes, call_bytes),
        "tick_seconds": 0,  # the platform's schedule ticks
        "live": False,  # an answer is sent when it is whole
        "hold_seconds": 0,  # what waits is paid for
        "metrics": "off",  # nobody can ask each container for its own
    }


class Bounded:
    """ASGI: an answer of more than `most` bytes becomes a problem that says so.

    The platform would fail the call with a status that explains nothing. Answers are held until
    they are whole, as Mangum does in any case.
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
    """The problem, under the answer's headers that are not about its body."""
    answer = problem(
        413,
        AnswerTooLarge.code,
        f"The answer takes {size} bytes; one holds at most {most} here. Ask for less at a time.",
    )
    kept = [(name, value) for name, value in start["headers"] if name not in _OF_THE_BODY]
    headers = [*answer.raw_headers, *kept]
    return [
        {"type": "http.response.start", "status": answer.status_code, "headers": headers},
        {"type": "http.response.body", "body": answer.body},
    ]


class Container:
    """A started application and its event loop, for as long as the platform keeps the process.

    `http` is what answers requests. It is closed only for another one to take its place: serverless
    platforms end a container without saying so. Where it cannot be opened it leaves nothing behind.
    """

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        try:
            self._open(settings)
        except BaseException:
            self._loop.close()  # it has three descriptors, and platforms try again and again
            raise

    def _open(self, settings: Settings) -> None:
        self.enter()
        # What the platform's runtime has set up for logging would write every line again.
        logs.configure(settings.log_format, settings.log_level, alone=True)
        self.app = create_app(settings, callers_known=True)
        self.http = Bounded(self.app, settings.answer_bytes) if settings.answer_bytes else self.app
        # Kept, or Python would end it as garbage, and the application with it.
        self._lifespan = self.app.router.lifespan_context(self.app)
        self._loop.run_until_complete(self._lifespan.__aenter__())
        gc.freeze()
        gc.enable()

    def close(self) -> None:
        """Leave the database and end the loop. Traces go on: they are the next one's, too."""
        self.enter()
        coordinator = self.app.state.coordinator
        self._loop.run_until_complete(coordinator.close())
        self._loop.run_until_complete(coordinator.context.repo.documents.close())
        self._loop.close()

    def enter(self) -> None:
        """Make its loop the current one: the database's connections belong to it."""
        asyncio.set_event_loop(self._loop)

    def tick(self) -> dict[str, list[str]]:
        """Advance the open experiments; the answer to a scheduled event."""
        with ids.belonging_to():
            return {"advanced": self._loop.run_until_complete(self.app.state.coordinator.tick())}

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around each call: its loop is the current one, and its traces are sent before it ends."""
        self.enter()
        try:
            yield
        finally:
            trace.flush()
