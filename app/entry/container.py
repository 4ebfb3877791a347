"""What the serverless entries share: the application, opened once, on a loop that stays."""

from __future__ import annotations

import asyncio
from typing import Any

from app.config import Settings
from app.main import create_app


def within(settings: Settings, call_bytes: int) -> dict[str, Any]:
    """What of the settings must change where a call carries `call_bytes` of weights either way,
    and nothing runs between two calls.
    """
    return {
        "part_bytes": min(settings.part_bytes, call_bytes),
        "answer_bytes": min(settings.answer_bytes or call_bytes, call_bytes),
        "tick_seconds": 0,  # the platform's schedule ticks
        "live": False,  # an answer is sent when it is whole
    }


class Container:
    """A started application and its event loop, for as long as the platform keeps the process.

    Nothing here closes it: serverless platforms end a container without saying so.
    """

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self.enter()
        self.app = create_app(settings)
        self._loop.run_until_complete(self.app.router.lifespan_context(self.app).__aenter__())

    def enter(self) -> None:
        """Make its loop the current one: the database's connections belong to it."""
        asyncio.set_event_loop(self._loop)

    def tick(self) -> dict[str, list[str]]:
        """Advance the open experiments; the answer to a scheduled event."""
        return {"advanced": self._loop.run_until_complete(self.app.state.coordinator.tick())}
