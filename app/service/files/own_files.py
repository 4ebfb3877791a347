"""Files that the coordinator makes itself: models, compressed models, state, and sums."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing
from typing import TYPE_CHECKING

from app.service.files.stored import Gone, digest_of, fetch_ahead, verified_part
from app.store.port import Blobs
from serverless_fl.domain.errors import DigestMismatch
from serverless_fl.domain.records import Blob, part_key

if TYPE_CHECKING:
    import numpy as np

_WIDTH = 8  # bytes of a float64


class Damaged(Exception):
    """A part that the coordinator made is gone or altered; it can be made again from other files.

    `prefix`: delete these keys first, because the store does not overwrite a key.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.prefix = prefix


async def put_part(blobs: Blobs, prefix: str, number: int, data: bytes) -> str:
    """Store a part; return its SHA-256."""
    sha256 = await digest_of(data)
    await blobs.put(part_key(prefix, number, sha256), data)
    return sha256


async def own_part(blobs: Blobs, blob: Blob, number: int) -> bytes:
    """The bytes of a part. Raises Damaged."""
    try:
        return await verified_part(blobs, blob, number)
    except (Gone, DigestMismatch) as error:
        raise Damaged(blob.key(number)) from error


async def put_array(blobs: Blobs, prefix: str, values: np.ndarray, part_bytes: int) -> Blob:
    """Store a flat array as float64, in parts of at most `part_bytes`."""
    parts, sizes, step = list[str](), list[int](), max(1, part_bytes // _WIDTH)
    for start in range(0, values.size, step):
        data = values[start : start + step].astype("<f8").tobytes()
        parts.append(await put_part(blobs, prefix, len(parts), data))
        sizes.append(len(data))
    return Blob(prefix=prefix, sha256="", parts=tuple(parts), sizes=tuple(sizes))


async def own_arrays(blobs: Blobs, blob: Blob) -> list[np.ndarray]:
    """The values of a stored array, a flat array for each part. Raises Damaged."""
    import numpy as np

    return [
        np.frombuffer(await own_part(blobs, blob, number), "<f8")
        for number in range(len(blob.parts))
    ]


class NewFile:
    """A file in the making: its parts are stored one by one, perhaps by several processes."""

    def __init__(self, blobs: Blobs, prefix: str) -> None:
        self._blobs, self._prefix = blobs, prefix
        self._parts: dict[int, tuple[str, int]] = {}  # SHA-256 and bytes of the stored parts
        self._digest = hashlib.sha256()
        self._digested = 0  # parts, from the first one on, that the digest covers

    async def find_parts(self) -> None:
        """List the parts that other processes have stored; further files lie under the prefix."""
        for key, size in (await self._blobs.sizes(f"{self._prefix}/")).items():
            name = key.removeprefix(f"{self._prefix}/")
            if "/" not in name:
                number, _, sha256 = name.partition("-")
                self._parts.setdefault(int(number), (sha256, size))

    def has(self, number: int) -> bool:
        return number in self._parts

    async def put(self, number: int, data: bytes) -> None:
        """Store a part."""
        sha256 = await put_part(self._blobs, self._prefix, number, data)
        self._parts[number] = (sha256, len(data))
        if number == self._digested:
            await asyncio.to_thread(self._digest.update, data)
            self._digested += 1

    @property
    def blob(self) -> Blob:
        """The file as far as this process knows its parts and has digested them."""
        parts = [self._parts[number] for number in range(len(self._parts))]
        return Blob(
            prefix=self._prefix,
            sha256=self._digest.hexdigest(),
            parts=tuple(sha256 for sha256, _ in parts),
            sizes=tuple(size for _, size in parts),
        )

    @property
    def undigested(self) -> int:
        """How many parts `finish` reads: those that this process did not make in their order."""
        return len(self._parts) - self._digested

    async def finish(self) -> Blob:
        """Check the file, whose parts are all stored. Raises Damaged."""
        blob = self.blob
        keys_left = [blob.key(number) for number in range(self._digested, len(blob.parts))]
        async with aclosing(fetch_ahead(self._blobs, keys_left)) as fetched:
            async for data in fetched:
                number = self._digested
                if data is None or await digest_of(data) != blob.parts[number]:
                    del self._parts[number]
                    raise Damaged(blob.key(number))
                await asyncio.to_thread(self._digest.update, data)
                self._digested = number + 1
        return self.blob
