"""Readers return a file's weights span by span: verified, decoded and clipped.

They turn deltas into weights, so their callers need not know encodings (docs/decisions/0018). The
clipping is that of `serverless_fl.privacy.mechanism`.
"""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from app.service.files import stored
from app.store.port import Blobs
from serverless_fl.domain.records import Blob, ModelVersion, Update
from serverless_fl.privacy.clipping import clip, squared_distance
from serverless_fl.weights import codec, deltas, encodings, spans
from serverless_fl.weights.header import FLOATS, Layout, read_header

Values = list[np.ndarray]  # a flat array for each piece of a span, in their order


class Reader(Protocol):
    """Reads weights by the spans of the model's layout."""

    async def read(self, span: spans.Span) -> Values:
        """The values of a span. Raises Gone, DigestMismatch."""
        ...


def update_reader(
    blobs: Blobs,
    update: Update,
    layout: Layout,
    encoding: str,
    base: Reader,
    companions: Sequence[str] = (),
    now: Reader | None = None,
) -> Reader:
    """A reader of an update's weights, clipped to the norm bound, and then of its companions.

    `base` reads the weights that the client trained from. If the round has others, which `now`
    reads, the update's difference from its own base is added to those.
    """
    form = encodings.update_layout(layout, encoding, companions)
    file = FileReader.of_update(blobs, update, form)
    reader = _weights_reader(file, update, layout, encoding, base, now)
    return CompanionReader(reader, file, companions) if companions else reader


def _weights_reader(
    file: FileReader,
    update: Update,
    layout: Layout,
    encoding: str,
    base: Reader,
    now: Reader | None,
) -> Reader:
    reader: Reader = file
    if encoding in encodings.UPDATE_ENCODINGS:
        reader = DeltaReader(file, encodings.float_names(layout), base)
    if now is not None:
        reader = RebasedReader(reader, base, now)
    return reader if update.scale == 1.0 else ClippedReader(reader, now or base, update.scale)


def base_reader(blobs: Blobs, model: ModelVersion, layout: Layout, encoding: str) -> Reader:
    """A reader of the weights that clients train from: the model, or its compressed model."""
    if model.compressed is None:
        return LastSpan(FileReader(blobs, model.blob, layout))
    target = encodings.encoded_layout(layout, encoding)
    file = FileReader(blobs, model.compressed, target)
    return LastSpan(CompressedReader(file, encodings.float_names(layout)))


class FileReader(Reader):
    """Reads a file of weights, whose tensors may have another order than the model's.

    `layout` is the file's own, with dtypes that may differ from the model's. Its tensor data begins
    at `offset`; without one, they are the end of the file, behind a header of any length.
    """

    def __init__(
        self,
        blobs: Blobs,
        blob: Blob,
        layout: Layout,
        *,
        offset: int | None = None,
        header: str = "",
    ) -> None:
        self._blobs, self._blob = blobs, blob
        self._offset = blob.size - layout.data_bytes if offset is None else offset
        theirs = read_header(base64.b64decode(header)) if header else layout
        self._tensors = {tensor.name: tensor for tensor in theirs.tensors}
        self._scales: np.ndarray | None = None

    @classmethod
    def of_update(cls, blobs: Blobs, update: Update, layout: Layout) -> FileReader:
        return cls(blobs, update.blob, layout, offset=update.offset, header=update.header)

    async def read(self, span: spans.Span) -> Values:
        """Raises Gone, DigestMismatch."""
        return await self._read(span, stored.Ranges(self._blobs, self._blob))

    async def read_scaled(self, span: spans.Span) -> tuple[Values, np.ndarray]:
        """The encoded values of a span, and the scales of the whole file, if it has any."""
        ranges = stored.Ranges(self._blobs, self._blob)
        if self._scales is None:  # first, because they lie in the first part
            own = tuple(
                spans.whole_tensor(t) for n, t in self._tensors.items() if n == encodings.SCALES
            )
            found = await self._read(own, ranges)
            self._scales = found[0].copy() if found else np.empty(0, np.float32)
        return await self._read(span, ranges), self._scales

    async def read_companion(self, span: spans.Span, companion: str) -> Values:
        """A companion's values of a span; 0 for tensors of whole numbers."""
        values, ranges = [], stored.Ranges(self._blobs, self._blob)
        for piece in span:
            if piece.tensor.dtype in FLOATS:
                name = encodings.companion_name(companion, piece.tensor.name)
                values += await self._read((piece.of(self._tensors[name]),), ranges)
            else:
                values.append(np.zeros(piece.last - piece.first, np.float32))
        return values

    async def _read(self, span: spans.Span, ranges: stored.Ranges) -> Values:
        values = []
        for piece in span:
            own = piece.of(self._tensors[piece.tensor.name])
            start = self._offset + own.start
            data = await ranges.read(start, start + own.size)
            values.append(codec.unpack(own, data))
        return values


class LastSpan(Reader):
    """Keeps the span that it read last, because all updates need that span of the base model."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._lock = asyncio.Lock()
        self._held: tuple[spans.Span, Values] | None = None

    async def read(self, span: spans.Span) -> Values:
        async with self._lock:
            if self._held is None or self._held[0] is not span:
                self._held = None  # free it before the next one is read
                self._held = (span, await self._reader.read(span))
            return self._held[1]


class DeltaReader(Reader):
    """Reads an update that was sent as a delta: adds the delta to the base model."""

    def __init__(self, reader: FileReader, names: list[str], base: Reader) -> None:
        self._reader, self._base = reader, base
        self._places = {name: place for place, name in enumerate(names)}

    async def read(self, span: spans.Span) -> Values:
        (theirs, scales), base = await asyncio.gather(
            self._reader.read_scaled(span), self._base.read(span)
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


class CompanionReader(Reader):
    """Reads an update's weights, and behind them the values of each of its companions."""

    def __init__(self, reader: Reader, file: FileReader, companions: Sequence[str]) -> None:
        self._reader, self._file, self._companions = reader, file, companions

    async def read(self, span: spans.Span) -> Values:
        values = [*await self._reader.read(span)]
        for companion in self._companions:
            values += await self._file.read_companion(span, companion)
        return values


class CompressedReader(Reader):
    """Reads a compressed model's weights, decoded."""

    def __init__(self, reader: FileReader, names: list[str]) -> None:
        self._reader = reader
        self._places = {name: place for place, name in enumerate(names)}

    async def read(self, span: spans.Span) -> Values:
        found, scales = await self._reader.read_scaled(span)
        return await asyncio.to_thread(self._decode, span, found, scales)

    def _decode(self, span: spans.Span, found: Values, scales: np.ndarray) -> Values:
        return [
            deltas.decompress_values(values, float(scales[place]), piece.tensor.dtype)
            if (place := self._places.get(piece.tensor.name)) is not None
            else values
            for piece, values in zip(span, found, strict=True)
        ]


class RebasedReader(Reader):
    """Reads what an update adds to its own base model, added to the model of now, in float64."""

    def __init__(self, reader: Reader, base: Reader, now: Reader) -> None:
        self._reader, self._base, self._now = reader, base, now

    async def read(self, span: spans.Span) -> Values:
        theirs, base, now = await asyncio.gather(
            self._reader.read(span), self._base.read(span), self._now.read(span)
        )
        return await asyncio.to_thread(
            lambda: [
                current.astype(np.float64) + (values.astype(np.float64) - before)
                if values.dtype.kind == "f"
                else values
                for values, before, current in zip(theirs, base, now, strict=True)
            ]
        )


class ClippedReader(Reader):
    """Reads an update whose distance from the base model is scaled down."""

    def __init__(self, reader: Reader, base: Reader, scale: float) -> None:
        self._reader, self._base, self._scale = reader, base, scale

    async def read(self, span: spans.Span) -> Values:
        theirs, base = await asyncio.gather(self._reader.read(span), self._base.read(span))
        return await asyncio.to_thread(
            lambda: [
                clip(values, ours, self._scale) if values.dtype.kind == "f" else values
                for values, ours in zip(theirs, base, strict=True)
            ]
        )


async def distance(reader: Reader, base: Reader, cut: list[spans.Span]) -> float:
    """The Euclidean norm of the difference between two files' floating-point tensors."""
    total = 0.0
    for span in cut:
        theirs, ours = await asyncio.gather(reader.read(span), base.read(span))
        for values, other in zip(theirs, ours, strict=True):
            if values.dtype.kind == "f":
                total += await asyncio.to_thread(squared_distance, values, other)
    return math.sqrt(total)
