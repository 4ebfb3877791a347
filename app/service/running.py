"""The sums of a span while they are formed, in pieces that are kept as one part each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import numpy as np

from app.aggregation import STRATEGIES
from app.domain.records import Blob
from app.service import weights
from app.store.port import Blobs
from app.wire import codec, spans


class Running:
    """A strategy for each piece of a span: element by element it is one strategy for all of it.

    Sums take two to eight times as much as a span. So that no more of them is in memory than they
    are themselves, they are stored and read again piece by piece.
    """

    def __init__(self, strategy: str, span: spans.Span, part_bytes: int) -> None:
        self._span = span
        self._pieces = spans.split(span, part_bytes)
        self._strategies = [STRATEGIES[strategy]() for _ in self._pieces]

    async def add(self, values: Sequence[tuple[str, np.ndarray]], num_examples: int) -> int:
        """Fold in an update's values of the span; gives their bytes."""
        size = sum(array.nbytes for _, array in values)
        await weights.beside_the_loop(size, partial(self._add, values, num_examples))
        return size

    def _add(self, values: Sequence[tuple[str, np.ndarray]], num_examples: int) -> None:
        firsts = {piece.tensor.name: piece.first for piece in self._span}
        arrays = dict(values)
        for pieces, strategy in zip(self._pieces, self._strategies, strict=True):
            named = ((piece, firsts[piece.tensor.name]) for piece in pieces)
            strategy.add(
                (
                    (p.tensor.name, arrays[p.tensor.name][p.first - f : p.last - f])
                    for p, f in named
                ),
                num_examples,
            )

    async def keep(self, blobs: Blobs, prefix: str) -> Blob:
        """Store the sums so far."""
        parts, sizes = [], []
        for number, strategy in enumerate(self._strategies):
            data = await asyncio.to_thread(lambda s=strategy: spans.dump(s.partial()))  # type: ignore[misc]
            parts.append(await weights.put_part(blobs, prefix, number, data))
            sizes.append(len(data))
            del data
        return Blob(prefix=prefix, sha256="", parts=tuple(parts), sizes=tuple(sizes))

    async def merge(self, blobs: Blobs, sums: Blob, num_examples: int) -> None:
        """Fold in what was kept of so many examples. Raises KeyError, DigestMismatch."""
        for number, strategy in enumerate(self._strategies):
            data = await weights.verified_part(blobs, sums, number)
            arrays = spans.arrays(codec.layout_of(data), data)
            await weights.beside_the_loop(len(data), partial(strategy.merge, arrays, num_examples))
            del data, arrays

    def result(self, header: bytes) -> bytes:
        """The bytes of the span of the new model, after a header. Consumes the sums."""
        done = [spans.pack(piece, self._strategies.pop(0).result()) for piece in self._pieces]
        return b"".join([header, *done])
