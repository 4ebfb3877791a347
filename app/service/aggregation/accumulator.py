"""The sums of updates over one span of the model. Calls store them for one another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import numpy as np

from app.service.files.own_files import own_part, put_part
from app.service.files.stored import in_thread_if_large
from app.store.port import Blobs
from serverless_fl.aggregation.mean import WeightedMean
from serverless_fl.domain.records import Blob
from serverless_fl.weights import codec, spans

_WIDTH = 8  # bytes of a float64


class Accumulator:
    """The sums of updates over one span.

    They take two to eight times the bytes of the span, so they are stored in parts of at most
    `part_bytes` each.
    """

    def __init__(self, span: spans.Span, part_bytes: int) -> None:
        self._span = span
        self._mean = WeightedMean(spans.elements(span))
        self._per_part = max(1, part_bytes // _WIDTH)

    async def add(self, values: Sequence[np.ndarray], num_examples: int) -> int:
        """Add an update's values, one array for each piece of the span; return their bytes."""
        size = sum(array.nbytes for array in values)
        await in_thread_if_large(size, partial(self._mean.add, values, num_examples))
        return size

    async def merge(self, blobs: Blobs, stored: Blob, num_examples: int) -> None:
        """Add stored sums of updates with so many examples. Raises Damaged."""
        sums = [
            np.frombuffer(await own_part(blobs, stored, number), "<f8")
            for number in range(len(stored.parts))
        ]
        size = sum(stored.sizes)
        await in_thread_if_large(size, partial(self._mean.merge, sums, num_examples))

    async def store(self, blobs: Blobs, prefix: str) -> Blob:
        """Store the sums so far."""
        sums, parts, sizes = self._mean.partial(), list[str](), list[int]()
        for start in range(0, sums.size, self._per_part):
            data = sums[start : start + self._per_part].astype("<f8").tobytes()
            parts.append(await put_part(blobs, prefix, len(parts), data))
            sizes.append(len(data))
        return Blob(prefix=prefix, sha256="", parts=tuple(parts), sizes=tuple(sizes))

    async def result(self, header: bytes) -> bytes:
        """A header, and behind it the span of the new model. Overwrites the sums."""
        return await asyncio.to_thread(self._encode, header)

    def _encode(self, header: bytes) -> bytes:
        means = spans.by_tensor(self._span, self._mean.result())
        rounded = codec.round_integers(self._span, means)
        return b"".join([header, codec.pack(self._span, rounded)])
