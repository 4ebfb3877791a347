"""A model cut into spans: runs of elements that are read, averaged and stored by themselves.

However large a model is, no more than one span of it need be in memory. Spans are cut where the
parts of an upload end, so that reading a span of an update reads one part.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from app.wire.codec import FLOATS, NUMPY_TYPES, TYPE_SIZES, Layout, TensorSpec


@dataclass(frozen=True)
class Piece:
    """The elements [first, last) of a tensor, counted in the order of its bytes."""

    tensor: TensorSpec
    first: int
    last: int

    @property
    def size(self) -> int:
        """In bytes."""
        return (self.last - self.first) * TYPE_SIZES[self.tensor.dtype]

    @property
    def start(self) -> int:
        """Where it begins in the tensor data of its file."""
        return self.tensor.start + self.first * TYPE_SIZES[self.tensor.dtype]

    def of(self, tensor: TensorSpec) -> Piece:
        """The same elements in another file, where they may lie elsewhere in another dtype."""
        return Piece(tensor, self.first, self.last)


Span = tuple[Piece, ...]


def cut(layout: Layout, part_bytes: int) -> list[Span]:
    """All elements of a file, one span for each part that it is uploaded in, the header counted.

    An element that lies across the end of a part belongs to the next span. A header that is longer
    than a part stands in the first one. There is always one span; the first may be empty.
    """
    edge = part_bytes - len(layout.header) % part_bytes
    spans: list[Span] = []
    pieces: list[Piece] = []
    for tensor in layout.tensors:
        width = TYPE_SIZES[tensor.dtype]
        count, first = (tensor.end - tensor.start) // width, 0
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
    """How many values a span has."""
    return sum(piece.last - piece.first for piece in span)


def named(span: Span, values: np.ndarray) -> dict[str, np.ndarray]:
    """A flat array of a span's values, by tensor name."""
    found, start = {}, 0
    for piece in span:
        end = start + piece.last - piece.first
        found[piece.tensor.name] = values[start:end]
        start = end
    return found


def with_whole_numbers(span: Span, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same values, those of integer and boolean tensors rounded to what their dtype holds.

    Ties go to even. The largest I64 and U64 are the largest float64 below 2**63 and 2**64.
    """
    found = dict(values)
    for tensor in (piece.tensor for piece in span if piece.tensor.dtype not in FLOATS):
        dtype, nearest = np.dtype(NUMPY_TYPES[tensor.dtype]), np.rint(values[tensor.name])
        if dtype.kind != "b":
            low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
            top = float(high) if int(float(high)) == high else np.nextafter(float(high), 0)
            nearest = np.clip(nearest, float(low), top)
        found[tensor.name] = nearest.astype(dtype)
    return found


def unpack(piece: Piece, data: memoryview) -> np.ndarray:
    """A piece's values, flat: a view of its bytes; for BF16 a float32 copy."""
    flat = np.frombuffer(data, dtype=NUMPY_TYPES[piece.tensor.dtype])
    if piece.tensor.dtype == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat


def size(span: Span) -> int:
    """In bytes."""
    return sum(piece.size for piece in span)


def pack(span: Span, values: Mapping[str, np.ndarray]) -> bytearray:
    """The bytes of a span, of each piece's values by its tensor's name, cast to its dtype."""
    data = bytearray(size(span))
    pack_into(memoryview(data), span, values)
    return data


def pack_into(body: memoryview, span: Span, values: Mapping[str, np.ndarray]) -> None:
    """The same, to the start of memory that is there."""
    place = 0
    for piece in span:
        dtype = piece.tensor.dtype
        out = np.frombuffer(body[place : place + piece.size], dtype=NUMPY_TYPES[dtype])
        value = values[piece.tensor.name].reshape(-1)
        if dtype == "BF16":
            bits = _odd_float32(value)
            # Round to nearest, ties to even, by adding before the low half is cut off.
            value = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        np.copyto(out, value, casting="unsafe")
        place += piece.size


def _odd_float32(value: np.ndarray) -> np.ndarray:
    """The bits of float32 values, cut off, with the last bit set where something was cut off.

    What is rounded to fewer bits afterwards is then rounded once: rounded to nearest here, a value
    just beside the middle of two others would first become the middle. Boldo and Melquiond,
    "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008.
    """
    near = value.astype(np.float32)
    over = np.abs(near) > np.abs(value)
    cut = np.where(over, np.nextafter(near, np.float32(0)), near)
    bits: np.ndarray = cut.view(np.uint32) | (near != value)
    return bits


def whole(layout: Layout) -> Span:
    """All of a file as one span."""
    return tuple(map(whole_tensor, layout.tensors))


def whole_tensor(tensor: TensorSpec) -> Piece:
    return Piece(tensor, 0, (tensor.end - tensor.start) // TYPE_SIZES[tensor.dtype])


def arrays(layout: Layout, data: bytes | bytearray) -> Iterator[tuple[str, np.ndarray]]:
    """Each tensor of a whole file: its name and its values, flat."""
    body = memoryview(data)[len(layout.header) :]
    for piece in whole(layout):
        yield piece.tensor.name, unpack(piece, body[piece.tensor.start : piece.tensor.end])


def dump(values: Mapping[str, np.ndarray]) -> bytes:
    """A safetensors file of float64 and int64 arrays: partial sums, which only we read again."""
    entries, place = {}, 0
    for name, value in values.items():
        end = place + value.nbytes
        entries[name] = {
            "dtype": {"f": "F64", "i": "I64"}[value.dtype.kind],
            "shape": value.shape,
            "data_offsets": [place, end],
        }
        place = end
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    bodies = (value.data.cast("B") for value in values.values() if value.size)
    return b"".join([len(header).to_bytes(8, "little"), header, *bodies])
