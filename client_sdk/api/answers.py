"""Reads answers, which may be anybody's: up to a bound, and then as models."""

from __future__ import annotations

import email.utils
import time
from typing import TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from client_sdk import errors
from serverless_fl.wire.text import clean

T = TypeVar("T")
ANSWER_BYTES = 16 * 1024**2  # of JSON
PROBLEM_BYTES = 64 * 1024  # of an error's body; the rest of it is not read
SLOWEST = 1000  # bytes a second; a slower answer ends in an error after PATIENCE seconds
PATIENCE = 120.0
MODEL_BYTES = 1024**3  # of a model; the coordinator's own default (FL_MAX_MODEL_BYTES)


async def read_body(response: httpx.Response, most: int) -> bytes:
    """Read an answer of at most `most` bytes, or the beginning of an error.

    Raises BadAnswer for a longer one, httpx.ReadTimeout for one that arrives too slowly.
    """
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise errors.BadAnswer(
            f"{response.url}: the answer comes in {clean(coding, 40)!r}, which was not asked for."
        )
    failed = response.is_error or response.is_redirect
    most = PROBLEM_BYTES if failed else most
    data, started = bytearray(), time.monotonic()
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101
    async for chunk in response.stream:
        data += chunk
        if time.monotonic() - started > PATIENCE + len(data) / SLOWEST:
            raise httpx.ReadTimeout("the answer arrives too slowly", request=response.request)
        if len(data) > most:
            if failed:
                return bytes(data[:most])
            raise errors.BadAnswer(
                f"{response.url}: the answer has more than the {most} bytes that it may have."
            )
    return bytes(data)


def parse(adapter: TypeAdapter[T], response: httpx.Response) -> T:
    """The body of an answer. Raises BadAnswer, which names the first field that is wrong."""
    try:
        return adapter.validate_json(response.content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise errors.BadAnswer(
            f"{response.url.copy_with(query=None)}: the answer is not a coordinator's of this "
            f"version: {clean(where + ': ' + first['msg'], 300)}"
        ) from error


def retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks for (RFC 9110, section 10.2.3), at most five minutes."""
    value = response.headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return min(float(value), 300.0)
    moment = email.utils.parsedate_tz(value)
    return min(max(email.utils.mktime_tz(moment) - time.time(), 0.0), 300.0) if moment else 0.0
