"""Binary bodies: uploaded parts, and downloads in byte ranges (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import asyncio
import re
import zlib
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response

from app.api.edge.downloads import Download, prefetched
from app.service.coordinator import Coordinator
from serverless_fl.domain.errors import (
    AnswerTooLarge,
    DigestMismatch,
    RangeNotSatisfiable,
    TooLarge,
)
from serverless_fl.domain.records import Blob
from serverless_fl.wire.base import Sha256
from serverless_fl.wire.bounds import MAX_PARTS

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
        (206, "The requested byte range, or its beginning if one answer cannot hold it"),
    )
}
WEIGHTS[304] = {"description": "The caller has this file already"}
_RANGE = re.compile(r"^bytes=(\d{0,19})-(\d{0,19})$")


async def part_of(request: Request, service: Coordinator) -> bytes:
    """Read a part's bytes, and unpack gzip; at most as many as a part may have.

    Raises TooLarge, DigestMismatch (for bad gzip), Busy.
    """
    with request.app.state.reading.one(request.scope):
        data = await request.body()
    if request.headers.get("content-encoding", "").strip().lower() != "gzip":
        return data
    return await asyncio.to_thread(_unzipped, data, service.limits.part_bytes)


def _unzipped(data: bytes, most: int) -> bytes:
    unpack = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        found = unpack.decompress(data, most + 1)
    except zlib.error as error:
        raise DigestMismatch(f"The body is not gzip: {error}. Send it again.") from error
    if len(found) > most:
        raise TooLarge(f"The unpacked part is too large: at most {most} bytes.")
    if not unpack.eof or unpack.unused_data:
        raise DigestMismatch("The gzip body is cut off, or has bytes after its end: send it again.")
    return found


async def weights_response(
    request: Request, service: Coordinator, blob: Blob, **more: str
) -> Response:
    """Answer with a file's bytes (200), a range of them (206), or 304.

    If the platform limits an answer (`Limits.answer_bytes`), a 206 may hold less than the requested
    range, as RFC 9110 (section 15.3.7) allows; Content-Range names the bytes.
    Raises RangeNotSatisfiable, AnswerTooLarge, StoreUnavailable, and NotFound if the file is gone.
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
    limit = service.limits.answer_bytes
    if limit is not None and stop - start > limit:
        if status == 200:
            raise AnswerTooLarge(
                f"The file has {size} bytes, but this platform sends at most {limit} in an answer. "
                f"Ask for ranges (`Range: bytes=0-{limit - 1}`, and so on)."
            )
        stop = start + limit
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["Content-Length"] = str(stop - start)
    pieces = await prefetched(service.models.read(blob, start, stop), whole=limit is not None)
    return Download(pieces, status, headers=headers, media_type="application/octet-stream")


def _parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Give [start, stop) of a single range. None for other forms, which RFC 9110 lets us ignore."""
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
