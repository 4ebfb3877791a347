"""Files of weights in the store: checks them, reads verified ranges, stores parts."""

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


class Damaged(Exception):
    """A part that the coordinator made is gone or altered; it can be made again from other files.

    `prefix`: delete these keys first, because the store keeps what a key holds.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.prefix = prefix


AHEAD = 3  # parts of a file that are fetched while one is read
_SMALL = 256 * 1024  # bytes that take less time than waking a thread


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
    """Check that the parts make up the announced file and that it is sound; give its reference.

    `verified`: a coordinator stored each part under its own digest. If not, parts above
    `part_bytes` are deleted unread.
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
    judge = _Judge(expected, parts if verified else [])
    async with aclosing(ahead(blobs, keys)) as fetched:
        number = 0
        async for data in fetched:
            if data is None:  # its round was closed meanwhile, or a deletion died in the middle
                await blobs.delete(keys[number])
                raise PartsMissing(f"Part {number} is gone: send it again, if its round is open.")
            if await beside_the_loop(len(data), partial(judge.feed, data)) != parts[number]:
                await _drop_altered(blobs, keys[number], number)
            if len(data) != blob.sizes[number]:  # such a store, too, can have it replaced meanwhile
                raise PartsMissing(f"Part {number} was replaced while it was read: commit again.")
            number += 1
    return blob, judge.verdict(sha256)


async def _drop_altered(blobs: Blobs, key: str, number: int) -> NoReturn:
    """Delete a part with other bytes: clients wrote it to a store that checks no digests."""
    await blobs.delete(key)
    raise PartsMissing(f"Part {number} holds other bytes than it says: send it again.")


async def ahead(blobs: Blobs, keys: Sequence[str]) -> AsyncGenerator[bytes | None, None]:
    """The blobs under these keys, in their order. The next few are fetched meanwhile: a bucket or
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


async def judged(
    prefix: str, sha256: str, data: bytes, limit: int, expected: Layout
) -> tuple[Blob, Layout]:
    """Check a file of one part, which has this digest; give the reference that it will have.

    Raises TooLarge, or BadWeights for what is in it.
    """
    blob = Blob(prefix=prefix, sha256=sha256, parts=(sha256,), sizes=(len(data),))
    _require_within(blob, limit)
    check = UpdateCheck(expected)
    await beside_the_loop(len(data), lambda: check.feed(data))
    return blob, check.finish()


def _require_within(blob: Blob, limit: int) -> None:
    if blob.size > limit:
        raise TooLarge(f"The weights take {blob.size} bytes; at most {limit} are allowed.")


class _Judge:
    """Digests and checks a file's parts as they come."""

    def __init__(self, expected: Layout | None, known: list[str]) -> None:
        self._check, self._digest = UpdateCheck(expected), hashlib.sha256()
        self._fault: BadWeights | None = None
        self._known = iter(known)
        self._whole = known[0] if len(known) == 1 else None

    def feed(self, part: bytes) -> str:
        """Take the next part; gives its SHA-256."""
        if self._whole is None:
            self._digest.update(part)
        if self._fault is None:
            try:
                self._check.feed(part)
            except BadWeights as error:
                self._fault = error
        return next(self._known, None) or hashlib.sha256(part).hexdigest()

    def verdict(self, sha256: str) -> Layout:
        """Raises DigestMismatch, BadWeights."""
        # First the digest: bytes that were mixed up on the way say nothing about the weights.
        found = self._whole or self._digest.hexdigest()
        if found != sha256:
            raise DigestMismatch(f"The parts' SHA-256 is {found}, not {sha256}.")
        if self._fault is not None:
            raise self._fault
        return self._check.finish()


async def read(blobs: Blobs, blob: Blob, start: int, stop: int) -> AsyncIterator[bytes]:
    """The bytes [start, stop) of a blob, a part at a time. Raises Gone where one is gone."""
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
        """The bytes [start, stop). Raises Gone where a part is gone, DigestMismatch."""
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
            self._held = (-1, b"")  # frees it before the next one is read
            self._held = (number, await verified_part(self._blobs, self._blob, number))
        return self._held[1]


async def verified_part(blobs: Blobs, blob: Blob, number: int) -> bytes:
    """Raises Gone where the part is gone, DigestMismatch where it is not what was accepted."""
    data = await blobs.get(blob.key(number))
    if data is None:
        raise Gone(blob.key(number))
    if await digest_of(data) != blob.parts[number]:
        raise DigestMismatch(f"The store's bytes under {blob.key(number)} were altered.")
    return data


async def put_part(blobs: Blobs, prefix: str, number: int, data: bytes) -> str:
    """Store a part that the coordinator made; returns its digest."""
    sha256 = await digest_of(data)
    await blobs.put(part_key(prefix, number, sha256), data)
    return sha256


async def check_own_part(blobs: Blobs, blob: Blob, number: int) -> bytes:
    """As `verified_part`, for a part that can be made again. Raises Damaged."""
    try:
        return await verified_part(blobs, blob, number)
    except (Gone, DigestMismatch) as error:
        raise Damaged(blob.key(number)) from error


async def digest_of(data: bytes | bytearray) -> str:
    """SHA-256, in hexadecimal."""
    return await beside_the_loop(len(data), lambda: hashlib.sha256(data).hexdigest())


async def beside_the_loop(size: int, work: Callable[[], T]) -> T:
    """Do work on so many bytes: many in a thread, few at once on the event loop."""
    return work() if size < _SMALL else await asyncio.to_thread(work)
