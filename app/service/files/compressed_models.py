"""Compressed models: clients download them to train from, in fewer bits (docs/decisions/0018).

A compressed model is made when its version is stored, span by span. It is a function of the model's
bytes alone, so every process makes the same file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from app.service.files.own_files import NewFile, own_part
from app.service.files.readers import FileReader, Values
from app.store.port import Blobs
from serverless_fl.domain.records import Blob
from serverless_fl.weights import codec, deltas, encodings, spans
from serverless_fl.weights.header import Layout


class CompressedModel:
    """One model's compressed model in the making: do all `steps`, then take the `blob`.

    `again`: an earlier process may have stored some of its parts, so each part is read back and
    checked.
    """

    def __init__(
        self,
        blobs: Blobs,
        model: Blob,
        layout: Layout,
        encoding: str,
        prefix: str,
        *,
        again: bool = False,
    ) -> None:
        self._blobs, self._layout, self._again = blobs, layout, again
        self._source = FileReader(blobs, model, layout)
        self._target = encodings.encoded_layout(layout, encoding)
        self._tensors = {tensor.name: tensor for tensor in self._target.tensors}
        self._dtype = encodings.MODEL_ENCODINGS[encoding]
        self._scales: dict[str, float] = {}
        self._file = NewFile(blobs, prefix)

    async def steps(self, span_bytes: int) -> AsyncIterator[None]:
        """Read the model twice: for its scales, then for its values.

        Raises Gone, DigestMismatch, and Damaged for a part of the compressed model.
        """
        cut = spans.cut(self._layout, span_bytes)
        largest = dict.fromkeys(encodings.float_names(self._layout), 0.0)
        for span in cut:
            await asyncio.to_thread(_update_largest, largest, span, await self._source.read(span))
            yield
        self._scales = {n: deltas.scale_for(top, self._dtype) for n, top in largest.items()}
        scales = np.array(list(self._scales.values()), np.float32)
        head = self._target.header + scales.astype("<f4").tobytes()
        for number, span in enumerate(cut):
            values = await self._source.read(span)
            data = head + await asyncio.to_thread(self._encode, span, values)
            head = b""
            await self._file.put(number, data)
            if self._again:
                await own_part(self._blobs, self._file.blob, number)
            yield

    def _encode(self, span: spans.Span, values: Values) -> bytes:
        own = tuple(piece.of(self._tensors[piece.tensor.name]) for piece in span)
        found = {}
        for piece, value in zip(span, values, strict=True):
            name = piece.tensor.name
            scaled = name in self._scales
            found[name] = (
                deltas.round_to_scale(value, self._scales[name], self._dtype) if scaled else value
            )
        return bytes(codec.pack(own, found))

    @property
    def blob(self) -> Blob:
        return self._file.blob


def _update_largest(largest: dict[str, float], span: spans.Span, values: Values) -> None:
    """Note the largest magnitude of each tensor."""
    for piece, value in zip(span, values, strict=True):
        if (name := piece.tensor.name) in largest:
            largest[name] = max(largest[name], float(np.max(np.abs(value), initial=0.0)))
