"""Files of weights in the blob store: checks those that clients send, and reads verified ranges."""

from __future__ import annotations

import asyncio
import hashlib
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from itertools import accumulate, islice
from typing import NoReturn, TypeVar

from app.store.port import Blobs
from serverless_fl.domain.errors import BadWeights, DigestMismatch, PartsMissing, TooLarge
from serverless_fl.domain.records import Blob, part_key
from serverless_fl.weights.check import UpdateCheck
from serverless_fl.weights.header import Layout

T = TypeVar("T")


class Gone(KeyError):
    """A blob that a document names is not in the store."""


AHEAD = 3  # parts of a file are fetched while one is read
_SMALL = 256 * 1024  # bytes; to work on fewer takes less time than to wake a thread


async def commit(
    blobs: Blobs,
    prefix: str,
    sha256: str,
    parts: list[str],
    *,
    limit: int,
    part_bytes: int,
    expected: Layout | None = None,
    verified: bool = False,
) -> tuple[Blob, Layout]:
    """Check that the stored parts make up the file that the client names, and check its weights.

    `verified`: a coordinator computed the digest of each part before it stored it. If not, a part
    above `part_bytes` is deleted unread.
    Raises PartsMissing, TooLarge, DigestMismatch, or BadWeights for the content of the file.
    """
    stored = await blobs.sizes(f"{prefix}/")
    keys = [part_key(prefix, number, part) for number, part in enumerate(parts)]
    missing = [number for number, key in enumerate(keys) if key not in stored]
    if missing:
        raise PartsMissing(f"Parts {missing[:20]} have not been uploaded: send them, then commit.")
    for number, key in enumerate(keys):
        if not verified and stored[key] > part_bytes:
            await _drop_altered(blobs, key, number)
    blob = Blob(
        prefix=prefix, sha256=sha256, parts=tuple(parts), sizes=tuple(stored[key] for key in keys)
    )
    _require_within(blob, limit)
    check = _FileCheck(expected, parts if verified else [])
    async with aclosing(fetch_ahead(blobs, keys)) as fetched:
        number = 0
        async for data in fetched:
            if data is None:  # the round was closed meanwhile, or a deletion died half-way
                await blobs.delete(keys[number])
                raise PartsMissing(f"Part {number} is gone: send it again, if its round is open.")
            if await in_thread_if_large(len(data), partial(check.feed, data)) != parts[number]:
                await _drop_altered(blobs, keys[number], number)
            if len(data) != blob.sizes[number]:  # a client wrote to the bucket meanwhile
                raise PartsMissing(f"Part {number} was replaced while it was read: commit again.")
            number += 1
    return blob, check.finish(sha256)


async def _drop_altered(blobs: Blobs, key: str, number: int) -> NoReturn:
    """Delete a part that a client wrote with other bytes, to a bucket that checks no digests."""
    await blobs.delete(key)
    raise PartsMissing(f"Part {number} holds bytes of another SHA-256: send it again.")


async def fetch_ahead(blobs: Blobs, keys: Sequence[str]) -> AsyncGenerator[bytes | None, None]:
    """Yield the blobs of these keys in their order, and fetch the next few meanwhile: a bucket or
    a distant database takes some time before the first byte of each.
    """
    fetched: deque[asyncio.Task[bytes | None]] = deque()
    left = iter(keys)
    try:
        while True:
            fetched.extend(
                asyncio.create_task(blobs.get(key))
                for key in islice(left, AHEAD + 1 - len(fetched))
            )
            if not fetched:
                return
            yield await fetched.popleft()
    finally:
        for task in fetched:
            task.cancel()
        await asyncio.gather(*fetched, return_exceptions=True)


async def check_file(
    prefix: str, sha256: str, data: bytes, limit: int, expected: Layout
) -> tuple[Blob, Layout]:
    """Check a file of one part, which has this SHA-256, before it is stored.

    Returns the reference under which it can be stored, and its layout. Raises TooLarge, or
    BadWeights for the content of the file.
    """
    blob = Blob(prefix=prefix, sha256=sha256, parts=(sha256,), sizes=(len(data),))
    _require_within(blob, limit)
    check = UpdateCheck(expected)
    await in_thread_if_large(len(data), lambda: check.feed(data))
    return blob, check.finish()


def _require_within(blob: Blob, limit: int) -> None:
    if blob.size > limit:
        raise TooLarge(f"The weights take {blob.size} bytes; at most {limit} are allowed.")


class _FileCheck:
    """Digests a file and checks its weights, part by part."""

    def __init__(self, expected: Layout | None, known: list[str]) -> None:
        self._check, self._digest = UpdateCheck(expected), hashlib.sha256()
        self._fault: BadWeights | None = None
        self._known = iter(known)
        self._whole = known[0] if len(known) == 1 else None

    def feed(self, part: bytes) -> str:
        """Take the next part; return its SHA-256."""
        if self._whole is None:
            self._digest.update(part)
        if self._fault is None:
            try:
                self._check.feed(part)
            except BadWeights as error:
                self._fault = error
        return next(self._known, None) or hashlib.sha256(part).hexdigest()

    def finish(self, sha256: str) -> Layout:
        """Raises DigestMismatch, BadWeights."""
        # First the digest: a fault of the line is no fault of the weights.
        found = self._whole or self._digest.hexdigest()
        if found != sha256:
            raise DigestMismatch(f"The parts' SHA-256 is {found}, not {sha256}.")
        if self._fault is not None:
            raise self._fault
        return self._check.finish()


async def read(blobs: Blobs, blob: Blob, start: int, stop: int) -> AsyncIterator[bytes]:
    """The bytes [start, stop) of a blob, a part at a time. Raises Gone."""
    place = 0
    for number, size in enumerate(blob.sizes):
        low, high = max(start - place, 0), min(stop - place, size)
        if low < high:
            data = await blobs.get(blob.key(number))
            if data is None:
                raise Gone(blob.key(number))
            yield data[low:high]
        place += size


class Ranges:
    """Reads verified ranges of one blob; keeps the part that it read last."""

    def __init__(self, blobs: Blobs, blob: Blob) -> None:
        self._blobs, self._blob = blobs, blob
        self._ends = list(accumulate(blob.sizes))
        self._held: tuple[int, bytes] = (-1, b"")

    async def read(self, start: int, stop: int) -> memoryview:
        """The bytes [start, stop). Raises Gone, DigestMismatch."""
        found = []
        number = bisect_right(self._ends, start)
        while start < stop:
            data = await self._part(number)
            first = self._ends[number] - len(data)
            piece = memoryview(data)[start - first : stop - first]
            found.append(piece)
            start += len(piece)
            number += 1
        return found[0] if len(found) == 1 else memoryview(b"".join(found))

    async def _part(self, number: int) -> bytes:
        if self._held[0] != number:
            self._held = (-1, b"")  # free it before the next one is read
            self._held = (number, await verified_part(self._blobs, self._blob, number))
        return self._held[1]


async def verified_part(blobs: Blobs, blob: Blob, number: int) -> bytes:
    """The bytes of a part. Raises Gone, or DigestMismatch where they are not the accepted ones."""
    data = await blobs.get(blob.key(number))
    if data is None:
        raise Gone(blob.key(number))
    if await digest_of(data) != blob.parts[number]:
        raise DigestMismatch(f"The store's bytes under {blob.key(number)} were altered.")
    return data


async def digest_of(data: bytes | bytearray) -> str:
    """SHA-256, in hexadecimal."""
    return await in_thread_if_large(len(data), lambda: hashlib.sha256(data).hexdigest())


async def in_thread_if_large(size: int, work: Callable[[], T]) -> T:
    """Do work on `size` bytes: in a thread if they are many, else at once."""
    return work() if size < _SMALL else await asyncio.to_thread(work)
