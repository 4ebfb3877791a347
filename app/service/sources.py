"""An update's values, span by span, as the aggregation takes them: verified, clipped if need be.

The norm bound follows Sun et al., "Can You Really Backdoor Federated Learning?", 2019,
arXiv:1911.07963: an update's distance from its base model is bounded, so that no single client can
move the mean further than bound * its share of the examples.
"""

from __future__ import annotations

import asyncio
import base64
import math

import numpy as np

from app.domain.records import Blob, ModelVersion, Update
from app.service import weights
from app.store.port import Blobs
from app.wire import codec, spans


class Source:
    """A file's values in the spans of the model's layout, whatever order its own tensors have."""

    def __init__(
        self, blobs: Blobs, blob: Blob, layout: codec.Layout, *, offset: int, header: str = ""
    ) -> None:
        self._blobs, self._blob, self._offset = blobs, blob, offset
        theirs = codec.parse_header(base64.b64decode(header)) if header else layout
        self._tensors = {tensor.name: tensor for tensor in theirs.tensors}

    @classmethod
    def of_model(cls, blobs: Blobs, model: ModelVersion, layout: codec.Layout) -> Source:
        """Of a global model: every version has the layout's own header."""
        return cls(blobs, model.blob, layout, offset=len(layout.header))

    @classmethod
    def of_update(cls, blobs: Blobs, update: Update, layout: codec.Layout) -> Source:
        return cls(blobs, update.blob, layout, offset=update.offset, header=update.header)

    async def read(self, span: spans.Span) -> list[tuple[str, np.ndarray]]:
        """Each piece's tensor name and values. Raises KeyError, DigestMismatch."""
        values = []
        reader = weights.Reader(self._blobs, self._blob)
        for piece in span:
            start = self._offset + piece.start_in(self._tensors[piece.tensor.name])
            data = await reader.read(start, start + piece.size)
            values.append((piece.tensor.name, spans.unpack(piece, data)))
        return values


class Clipped:
    """A source whose distance from the base model is scaled down."""

    def __init__(self, source: Source, base: Source, scale: float) -> None:
        self._source, self._base, self._scale = source, base, scale

    async def read(self, span: spans.Span) -> list[tuple[str, np.ndarray]]:
        theirs, base = await asyncio.gather(self._source.read(span), self._base.read(span))
        return await asyncio.to_thread(
            lambda: [
                (name, clip(values, ours, self._scale) if values.dtype.kind == "f" else values)
                for (name, values), (_, ours) in zip(theirs, base, strict=True)
            ]
        )


def clip(values: np.ndarray, base: np.ndarray, scale: float) -> np.ndarray:
    """The base plus `scale` times what differs from it, in float64."""
    wide = base.astype(np.float64)
    return np.asarray(wide + scale * (values.astype(np.float64) - wide))


async def distance(source: Source, base: Source, cut: list[spans.Span]) -> float:
    """The Euclidean norm of what differs between two files' floating-point tensors."""
    total = 0.0
    for span in cut:
        theirs, ours = await asyncio.gather(source.read(span), base.read(span))
        for (_, values), (_, other) in zip(theirs, ours, strict=True):
            if values.dtype.kind == "f":
                total += await asyncio.to_thread(_squares, values, other)
    return math.sqrt(total)


def _squares(values: np.ndarray, other: np.ndarray) -> float:
    with np.errstate(over="ignore"):  # to infinity, which no bound admits
        difference = values.astype(np.float64) - other
        return float(np.sum(difference * difference))
