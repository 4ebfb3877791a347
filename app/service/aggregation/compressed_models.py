"""The copy of a model that clients are sent to train from, in fewer bits (docs/decisions/0018).

It is made when the version is stored, span by span, and is a function of the model's bytes alone,
so whoever makes it gives the same file.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import numpy as np

from app.service.aggregation.readers import FileReader, Values
from app.service.files import stored
from app.store.port import Blobs
from serverless_fl.domain.records import Blob
from serverless_fl.weights import codec, deltas, encodings, spans
from serverless_fl.weights.header import Layout


class Copy:
    """One model's copy in the making: do all `steps`, then take the `blob`.

    `again`: an earlier process may have stored parts of it, so they are read again and checked.
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
        self._blobs, self._layout, self._prefix, self._again = blobs, layout, prefix, again
        self._source = FileReader(blobs, model, layout, offset=len(layout.header))
        self._target = encodings.encoded_layout(layout, encoding)
        self._tensors = {tensor.name: tensor for tensor in self._target.tensors}
        self._dtype = encodings.MODEL_ENCODINGS[encoding]
        self._scales: dict[str, float] = {}
        self._parts: list[tuple[str, int]] = []
        self._digest = hashlib.sha256()

    async def steps(self, span_bytes: int) -> AsyncIterator[None]:
        """Read the model twice: for its scales, then for its values.

        Raises Gone, DigestMismatch, and Damaged for a part of the copy.
        """
        cut = spans.cut(self._layout, span_bytes)
        tops = dict.fromkeys(encodings.float_names(self._layout), 0.0)
        for span in cut:
            await asyncio.to_thread(_raise, tops, span, await self._source.read(span))
            yield
        self._scales = {n: deltas.scale_for(top, self._dtype) for n, top in tops.items()}
        scales = np.array(list(self._scales.values()), np.float32)
        head = self._target.header + scales.astype("<f4").tobytes()
        for number, span in enumerate(cut):
            values = await self._source.read(span)
            data = head + await asyncio.to_thread(self._packed, span, values)
            head = b""
            self._digest.update(data)
            sha256 = await stored.put_part(self._blobs, self._prefix, number, data)
            self._parts.append((sha256, len(data)))
            if self._again:
                await stored.check_own_part(self._blobs, self.blob, number)
            yield

    def _packed(self, span: spans.Span, values: Values) -> bytes:
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
        return Blob(
            prefix=self._prefix,
            sha256=self._digest.hexdigest(),
            parts=tuple(sha256 for sha256, _ in self._parts),
            sizes=tuple(size for _, size in self._parts),
        )


def _raise(tops: dict[str, float], span: spans.Span, values: Values) -> None:
    for piece, value in zip(span, values, strict=True):
        if (name := piece.tensor.name) in tops:
            tops[name] = max(tops[name], float(np.max(np.abs(value), initial=0.0)))
