"""Binary bodies: parts coming in, byte ranges going out (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import asyncio
import re
import zlib
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response

from app.api.edge.downloads import Download, begun
from app.service.coordinator import Coordinator
from serverless_fl.domain.errors import (
    AnswerTooLarge,
    DigestMismatch,
    RangeNotSatisfiable,
    TooLarge,
)
from serverless_fl.domain.records import Blob
from serverless_fl.wire.schema import MAX_PARTS, Sha256

PartNumber = Annotated[int, Path(ge=0, lt=MAX_PARTS, description="Counts from 0")]
PartSha256 = Annotated[Sha256, Query(description="SHA-256 of this part's bytes")]
OCTETS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
WEIGHTS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": what,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            "ETag": {"description": "The file's SHA-256", "schema": {"type": "string"}},
            "X-Model-Version": {"schema": {"type": "integer"}},
        },
    }
    for status, what in (
        (200, "A safetensors file"),
        (206, "The byte range asked for, or as much of it as one answer holds"),
    )
}
WEIGHTS[304] = {"description": "You have it already"}
_RANGE = re.compile(r"^bytes=(\d{0,19})-(\d{0,19})$")


async def part_of(request: Request, service: Coordinator) -> bytes:
    """A part's bytes, unpacked if need be: never more than a part may have.

    Raises TooLarge, DigestMismatch, Busy.
    """
    with request.app.state.reading.one(request.scope):
        data = await request.body()
    if request.headers.get("content-encoding", "").strip().lower() != "gzip":
        return data
    return await asyncio.to_thread(_unzipped, data, service.context.limits.part_bytes)


def _unzipped(data: bytes, most: int) -> bytes:
    unpack = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        found = unpack.decompress(data, most + 1)
    except zlib.error as error:
        raise DigestMismatch(f"The body is not gzip: {error}. Send it again.") from error
    if len(found) > most:
        raise TooLarge(f"The part holds more than {most} bytes, which is the most that it may.")
    if not unpack.eof or unpack.unused_data:
        raise DigestMismatch("The gzip body breaks off or goes on behind its end: send it again.")
    return found


async def weights_response(
    request: Request, service: Coordinator, blob: Blob, **more: str
) -> Response:
    """A file's bytes, whole or in part, or 304.

    Raises RangeNotSatisfiable, AnswerTooLarge, StoreUnavailable, and NotFound where it is gone.

    Where the platform limits an answer (`Limits.answer_bytes`), a 206 may hold less than was asked
    for, as RFC 9110 (section 15.3.7) allows: Content-Range says what it is.
    """
    size, etag = blob.size, f'"{blob.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        **more,
    }
    known = request.headers.get("if-none-match", "")
    if known == "*" or etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    start, stop, status = 0, size, 200
    wanted = request.headers.get("range")
    if wanted and request.headers.get("if-range", etag) == etag:
        found = _parse_range(wanted, size)
        if found is not None:
            start, stop, status = *found, 206
    limit = service.context.limits.answer_bytes
    if limit is not None and stop - start > limit:
        if status == 200:
            raise AnswerTooLarge(
                f"The file takes {size} bytes; an answer holds at most {limit} here. "
                f"Ask for ranges (`Range: bytes=0-{limit - 1}`, and so on)."
            )
        stop = start + limit
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["Content-Length"] = str(stop - start)
    pieces = await begun(service.models.read(blob, start, stop), whole=limit is not None)
    return Download(pieces, status, headers=headers, media_type="application/octet-stream")


def _parse_range(header: str, size: int) -> tuple[int, int] | None:
    """[start, stop) of a single range; None, as RFC 9110 allows, for forms that are not served."""
    match = _RANGE.match(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < int(first):
            return None
    if start >= stop:
        raise RangeNotSatisfiable(f"The file has {size} bytes.", size)
    return start, stop
