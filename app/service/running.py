"""The sums of a span while they are formed, in pieces that are kept as one part each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from app.aggregation import STRATEGIES, Strategy
from app.aggregation.memory import on_lines
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
        pieces = spans.split(span, part_bytes)
        counts = [spans.counts(piece) for piece in pieces]
        made = strategies(strategy, counts)
        self._pieces = list(zip(pieces, made, strict=True))
        self._sizes = [floats + others for floats, others in counts]

    async def add(self, values: Sequence[np.ndarray], num_examples: int) -> int:
        """Fold in an update's values of the span, in its order; gives their bytes."""
        size = sum(array.nbytes for array in values)
        await weights.beside_the_loop(size, partial(self._add, values, num_examples))
        return size

    def _add(self, values: Sequence[np.ndarray], num_examples: int) -> None:
        for (_, strategy), share in zip(self._pieces, _deal(values, self._sizes), strict=True):
            strategy.add(share, num_examples)

    async def keep(self, blobs: Blobs, prefix: str) -> Blob:
        """Store the sums so far."""
        parts, sizes = [], []
        for number, (piece, strategy) in enumerate(self._pieces):
            data = await asyncio.to_thread(_dump, piece, strategy)
            parts.append(await weights.put_part(blobs, prefix, number, data))
            sizes.append(len(data))
            del data
        return Blob(prefix=prefix, sha256="", parts=tuple(parts), sizes=tuple(sizes))

    async def merge(self, blobs: Blobs, sums: Blob, num_examples: int) -> None:
        """Fold in what was kept of so many examples. Raises Damaged."""
        for number, (piece, strategy) in enumerate(self._pieces):
            data = await weights.check_own_part(blobs, sums, number)
            work = partial(_load, piece, strategy, data, num_examples)
            await weights.beside_the_loop(len(data), work)
            del data, work

    def result(self, header: bytes) -> bytes:
        """The bytes of the span of the new model, after a header. Consumes the sums."""
        # Into one array, and copied when the sums are gone: both at once are three models' worth.
        data = bytearray(header).ljust(len(header) + sum(spans.size(p) for p, _ in self._pieces))
        body = memoryview(data)[len(header) :]
        for piece, strategy in self._pieces:
            spans.pack_into(body, piece, spans.named(piece, *strategy.result()))
            body = body[spans.size(piece) :]
        return bytes(data)


def strategies(name: str, counts: Sequence[tuple[int, int]]) -> list[Strategy]:
    """One for so many floating-point and so many other values, each."""
    memory = on_lines([floats for floats, _ in counts])
    others = (count for _, count in counts)
    return [STRATEGIES[name](*given) for given in zip(memory, others, strict=True)]


def _deal(values: Sequence[np.ndarray], sizes: Sequence[int]) -> Iterator[list[np.ndarray]]:
    """The same values, so many for each."""
    rest = list(reversed(values))
    for size in sizes:
        share, missing = [], size
        while missing and rest:
            array = rest.pop()
            share.append(array[:missing])
            if len(array) > missing:
                rest.append(array[missing:])
            missing -= len(share[-1])
        yield share
    if rest:
        raise ValueError("the update has more values than the span")


def _load(span: spans.Span, strategy: Strategy, data: bytes, num_examples: int) -> None:
    """Fold in what `_dump` gave."""
    sums = dict(spans.arrays(codec.layout_of(data), data))
    own = (sums[piece.tensor.name] for piece in span)
    halves = (values if values.dtype.kind == "f" else values.reshape(2, -1) for values in own)
    strategy.merge(halves, num_examples)


def _dump(span: spans.Span, strategy: Strategy) -> bytes:
    """A strategy's sums by tensor name; of integers flat, all the high halves first."""
    sums = spans.named(span, *strategy.partial())
    return spans.dump({name: values.ravel() for name, values in sums.items()})
