"""Answers that are too large to be held: their first part is fetched before their head is sent.

So a store that is away, or a file that is gone, is an error of its own, and no 200 without bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse
from starlette.types import Send

from app.telemetry.logs import WARNING, log_event
from serverless_fl.domain.errors import CoordinatorError


async def begun(pieces: AsyncIterator[bytes], *, whole: bool) -> AsyncIterator[bytes]:
    """The same pieces, the first one fetched by now; all of them where the platform sends an answer
    only once it is `whole`. Raises what fetching them raises.
    """
    first = [piece async for piece in pieces] if whole else [await anext(pieces, b"")]

    async def all_of_them() -> AsyncIterator[bytes]:
        for piece in first:
            yield piece
        async for piece in pieces:
            yield piece

    return all_of_them()


class Download(StreamingResponse):
    """Breaks off where a later part cannot be read.

    The head is sent, so there is nothing left to say but in the log. The body never ends, and so
    the server closes the connection: the client sees that it is short.
    """

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except CoordinatorError as error:
            log_event("download broke off", WARNING, code=error.code, cause=error.message)
