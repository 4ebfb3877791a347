"""A model cut into spans: runs of values that are read, averaged and stored by themselves.

However large a model is, one span of it fits in memory. Spans end where the parts of an upload end,
so that reading a span of an update reads one part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serverless_fl.weights.header import TYPE_SIZES, Layout, TensorSpec

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Piece:
    """The values [first, last) of a tensor, counted in the order of its bytes."""

    tensor: TensorSpec
    first: int
    last: int

    @property
    def size(self) -> int:
        """In bytes."""
        return (self.last - self.first) * TYPE_SIZES[self.tensor.dtype]

    @property
    def start(self) -> int:
        """Where its bytes begin, counted from the end of the file's header."""
        return self.tensor.start + self.first * TYPE_SIZES[self.tensor.dtype]

    def of(self, tensor: TensorSpec) -> Piece:
        """The same values in another file, where the tensor may lie elsewhere or have another
        dtype.
        """
        return Piece(tensor, self.first, self.last)


Span = tuple[Piece, ...]


def cut(layout: Layout, part_bytes: int) -> list[Span]:
    """Cut a file into one span for each part of `part_bytes` bytes that it is uploaded in.

    The header counts as bytes of the first part, and of the next ones where it is longer. A value
    that lies across the end of a part belongs to the next span. There is always one span; the first
    one may be empty.
    """
    edge = part_bytes - len(layout.header) % part_bytes
    spans: list[Span] = []
    pieces: list[Piece] = []
    for tensor in layout.tensors:
        width, count, first = TYPE_SIZES[tensor.dtype], tensor.count, 0
        while first < count:
            last = min(count, max(first, (edge - tensor.start) // width))
            if last > first:
                pieces.append(Piece(tensor, first, last))
            if last < count:
                spans.append(tuple(pieces))
                pieces = []
                edge += part_bytes
            first = last
    if pieces or not spans:
        spans.append(tuple(pieces))
    return spans


def elements(span: Span) -> int:
    """The number of values in a span."""
    return sum(piece.last - piece.first for piece in span)


def named(span: Span, values: np.ndarray) -> dict[str, np.ndarray]:
    """Give each piece's values by the name of its tensor: views of a flat array of the span's
    values.
    """
    found, start = {}, 0
    for piece in span:
        end = start + piece.last - piece.first
        found[piece.tensor.name] = values[start:end]
        start = end
    return found


def size(span: Span) -> int:
    """In bytes."""
    return sum(piece.size for piece in span)


def whole(layout: Layout) -> Span:
    """All values of a file as one span."""
    return tuple(map(whole_tensor, layout.tensors))


def whole_tensor(tensor: TensorSpec) -> Piece:
    """All values of a tensor as one piece."""
    return Piece(tensor, 0, tensor.count)
