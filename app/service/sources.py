"""An update's weights, span by span, as the aggregation takes them: verified, decoded, clipped.

A delta becomes weights here, so that nothing above knows of encodings (docs/decisions/0018).

The norm bound follows Sun et al., "Can You Really Backdoor Federated Learning?", 2019,
arXiv:1911.07963: an update's distance from its base model is bounded, so that no single client can
move the mean further than bound * its share of the examples.
"""

from __future__ import annotations

import asyncio
import base64
import math
from typing import Protocol

import numpy as np

from app.domain.experiment import WEIGHTS
from app.domain.records import Blob, ModelVersion, Update
from app.service import weights
from app.store.port import Blobs
from app.wire import codec, deltas, encodings, spans
from app.wire.header import Layout, read_header

Values = list[np.ndarray]  # of the pieces of a span, in their order, each flat


class Readable(Protocol):
    """Values in the spans of the model's layout."""

    async def read(self, span: spans.Span) -> Values:
        """Raises Gone, DigestMismatch."""
        ...


def of_update(
    blobs: Blobs, update: Update, layout: Layout, encoding: str, base: Readable
) -> Readable:
    """The weights of an update, of which as much differs from its base model as may count."""
    file = Source.of_update(blobs, update, encodings.encoded_layout(layout, encoding))
    source: Readable = file
    if encoding != WEIGHTS:
        source = Delta(file, encodings.float_names(layout), base)
    return source if update.scale == 1.0 else Clipped(source, base, update.scale)


def of_base(blobs: Blobs, model: ModelVersion, layout: Layout, encoding: str) -> Readable:
    """What clients train from: the model, or what its copy in this encoding stands for."""
    if model.copy is None:
        return Held(Source.of_model(blobs, model, layout))
    target = encodings.encoded_layout(layout, encoding)
    copy = Source(blobs, model.copy, target, offset=len(target.header))
    return Held(Copied(copy, encodings.float_names(layout)))


class Source(Readable):
    """A file's values in the spans of the model's layout, whatever order its own tensors have.

    `layout` is the file's own: its tensors' dtypes may be others than the model's.
    """

    def __init__(
        self, blobs: Blobs, blob: Blob, layout: Layout, *, offset: int, header: str = ""
    ) -> None:
        self._blobs, self._blob, self._offset = blobs, blob, offset
        theirs = read_header(base64.b64decode(header)) if header else layout
        self._tensors = {tensor.name: tensor for tensor in theirs.tensors}
        self._scales: np.ndarray | None = None

    @classmethod
    def of_model(cls, blobs: Blobs, model: ModelVersion, layout: Layout) -> Source:
        """Of a global model: every version has the layout's own header."""
        return cls(blobs, model.blob, layout, offset=len(layout.header))

    @classmethod
    def of_update(cls, blobs: Blobs, update: Update, layout: Layout) -> Source:
        return cls(blobs, update.blob, layout, offset=update.offset, header=update.header)

    async def read(self, span: spans.Span) -> Values:
        """Raises Gone, DigestMismatch."""
        return await self._read(span, weights.Reader(self._blobs, self._blob))

    async def read_scaled(self, span: spans.Span) -> tuple[Values, np.ndarray]:
        """The same of an encoded file, and the scales of the whole file, if it has such."""
        reader = weights.Reader(self._blobs, self._blob)
        if self._scales is None:  # they come first, so where there is one part it is read once
            own = tuple(
                spans.whole_tensor(t) for n, t in self._tensors.items() if n == encodings.SCALES
            )
            found = await self._read(own, reader)
            self._scales = found[0].copy() if found else np.empty(0, np.float32)
        return await self._read(span, reader), self._scales

    async def _read(self, span: spans.Span, reader: weights.Reader) -> Values:
        values = []
        for piece in span:
            own = piece.of(self._tensors[piece.tensor.name])
            start = self._offset + own.start
            data = await reader.read(start, start + own.size)
            values.append(codec.unpack(own, data))
        return values


class Held(Readable):
    """A source that keeps the span that it read last: the base model's, which all updates need."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._lock = asyncio.Lock()
        self._held: tuple[spans.Span, Values] | None = None

    async def read(self, span: spans.Span) -> Values:
        async with self._lock:
            if self._held is None or self._held[0] is not span:
                self._held = None  # let go of it before the next one is read
                self._held = (span, await self._source.read(span))
            return self._held[1]


class Delta(Readable):
    """The weights of an update that travels as what it differs by from the base model."""

    def __init__(self, source: Source, names: list[str], base: Readable) -> None:
        self._source, self._base = source, base
        self._places = {name: place for place, name in enumerate(names)}

    async def read(self, span: spans.Span) -> Values:
        (theirs, scales), base = await asyncio.gather(
            self._source.read_scaled(span), self._base.read(span)
        )
        return await asyncio.to_thread(self._restore, span, theirs, scales, base)

    def _restore(
        self, span: spans.Span, theirs: Values, scales: np.ndarray, base: Values
    ) -> Values:
        restored = []
        for piece, values, before in zip(span, theirs, base, strict=True):
            place = self._places.get(piece.tensor.name)
            if place is None:
                restored.append(values)
                continue
            scale = float(scales[place]) if len(scales) else 1.0
            restored.append(deltas.add_delta(values, scale, before, piece.tensor.dtype))
        return restored


class Copied(Readable):
    """The weights that the copy of a model stands for."""

    def __init__(self, source: Source, names: list[str]) -> None:
        self._source = source
        self._places = {name: place for place, name in enumerate(names)}

    async def read(self, span: spans.Span) -> Values:
        found, scales = await self._source.read_scaled(span)
        return await asyncio.to_thread(self._decode, span, found, scales)

    def _decode(self, span: spans.Span, found: Values, scales: np.ndarray) -> Values:
        return [
            deltas.decompress_values(values, float(scales[place]), piece.tensor.dtype)
            if (place := self._places.get(piece.tensor.name)) is not None
            else values
            for piece, values in zip(span, found, strict=True)
        ]


class Clipped(Readable):
    """A source whose distance from the base model is scaled down."""

    def __init__(self, source: Readable, base: Readable, scale: float) -> None:
        self._source, self._base, self._scale = source, base, scale

    async def read(self, span: spans.Span) -> Values:
        theirs, base = await asyncio.gather(self._source.read(span), self._base.read(span))
        return await asyncio.to_thread(
            lambda: [
                clip(values, ours, self._scale) if values.dtype.kind == "f" else values
                for values, ours in zip(theirs, base, strict=True)
            ]
        )


def clip(values: np.ndarray, base: np.ndarray, scale: float) -> np.ndarray:
    """The base plus `scale` times what differs from it, in float64."""
    wide = base.astype(np.float64)
    return np.asarray(wide + scale * (values.astype(np.float64) - wide))


async def distance(source: Readable, base: Readable, cut: list[spans.Span]) -> float:
    """The Euclidean norm of what differs between two files' floating-point tensors."""
    total = 0.0
    for span in cut:
        theirs, ours = await asyncio.gather(source.read(span), base.read(span))
        for values, other in zip(theirs, ours, strict=True):
            if values.dtype.kind == "f":
                total += await asyncio.to_thread(_squares, values, other)
    return math.sqrt(total)


def _squares(values: np.ndarray, other: np.ndarray) -> float:
    with np.errstate(over="ignore"):  # to infinity, which no bound admits
        difference = values.astype(np.float64) - other
        return float(np.sum(difference * difference))
