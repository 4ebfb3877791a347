"""Streamed downloads, whose first part is read before the head of the answer is sent.

So a store that is away, or a file that is gone, leads to an error and not to an empty 200.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse
from starlette.types import Send

from app.telemetry.logs import WARNING, log_event
from serverless_fl.domain.errors import CoordinatorError


async def prefetched(pieces: AsyncIterator[bytes], *, whole: bool) -> AsyncIterator[bytes]:
    """Read the first piece now, and give an iterator over all pieces.

    `whole`: read all pieces now, because the platform sends only complete answers. Raises the
    errors of the iterator `pieces`.
    """
    first = [piece async for piece in pieces] if whole else [await anext(pieces, b"")]

    async def all_of_them() -> AsyncIterator[bytes]:
        for piece in first:
            yield piece
        async for piece in pieces:
            yield piece

    return all_of_them()


class Download(StreamingResponse):
    """A streamed answer that stops if a later part cannot be read.

    Its head is already sent, so only the log can report the error. The body stays incomplete, so
    the server closes the connection and the client notices that bytes are missing.
    """

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except CoordinatorError as error:
            log_event("download broke off", WARNING, code=error.code, cause=error.message)
