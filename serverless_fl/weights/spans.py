"""Spans of a model: runs of values that the coordinator reads, averages and stores one at a time.

A span of a model of any size fits in memory. Spans end where the parts of an upload end, so the
coordinator reads one part of an update for one span.
"""

from __future__ import annotations

from collections.abc import Callable
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
        """The size in bytes."""
        return (self.last - self.first) * TYPE_SIZES[self.tensor.dtype]

    @property
    def start(self) -> int:
        """The place of its first byte, counted from the end of the file's header."""
        return self.tensor.start + self.first * TYPE_SIZES[self.tensor.dtype]

    def of(self, tensor: TensorSpec) -> Piece:
        """Give the piece with the same values of `tensor`, the same tensor in another file.

        There the tensor may have another place and another dtype.
        """
        return Piece(tensor, self.first, self.last)


Span = tuple[Piece, ...]
Step = Callable[..., tuple["np.ndarray", dict[str, "np.ndarray"]]]
"""A strategy's step over some elements; see `serverless_fl.aggregation.strategy.Strategy.step`."""


def cut(layout: Layout, part_bytes: int) -> list[Span]:
    """Cut a file into one span for each part of `part_bytes` bytes of its upload.

    The header belongs to the first part; a longer one fills several parts. A value that lies across
    the end of a part belongs to the next span. There is at least one span, and the first may be
    empty.
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
    """Give the number of values in a span."""
    return sum(piece.last - piece.first for piece in span)


def by_tensor(span: Span, values: np.ndarray) -> dict[str, np.ndarray]:
    """Split the values of a span [elements] into its pieces, as views, by the tensors' names."""
    found, start = {}, 0
    for piece in span:
        end = start + piece.last - piece.first
        found[piece.tensor.name] = values[start:end]
        start = end
    return found


def size(span: Span) -> int:
    """Give the size of a span in bytes."""
    return sum(piece.size for piece in span)


def whole(layout: Layout) -> Span:
    """Give all values of a file as one span."""
    return tuple(map(whole_tensor, layout.tensors))


def whole_tensor(tensor: TensorSpec) -> Piece:
    """Give all values of a tensor as one piece."""
    return Piece(tensor, 0, tensor.count)
