"""The values of tensors: from a file's bytes to NumPy arrays and back.

Bytes are little-endian, as the safetensors format says. NumPy has no bfloat16: such values are
float32 in memory, and are rounded to nearest, ties to even, when they are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from serverless_fl.weights.header import FLOATS, NUMPY_TYPES, Layout
from serverless_fl.weights.spans import Piece, Span, size, whole


def unpack(piece: Piece, data: memoryview) -> np.ndarray:
    """Give a piece's values, flat: a view of its bytes, or for BF16 a float32 copy."""
    flat = np.frombuffer(data, dtype=NUMPY_TYPES[piece.tensor.dtype])
    if piece.tensor.dtype == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat


def with_whole_numbers(span: Span, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give the same values, with those of integer and boolean tensors rounded to their dtype.

    Ties go to even, and what lies beyond the dtype becomes its nearest value. The largest I64 and
    U64 are the largest float64 below 2**63 and 2**64.
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


def pack(span: Span, values: Mapping[str, np.ndarray]) -> bytearray:
    """Give the bytes of a span. `values` holds each piece's values by the name of its tensor; they
    are cast to the tensor's dtype.
    """
    data = bytearray(size(span))
    body, place = memoryview(data), 0
    for piece in span:
        dtype = piece.tensor.dtype
        out = np.frombuffer(body[place : place + piece.size], dtype=NUMPY_TYPES[dtype])
        value = values[piece.tensor.name].reshape(-1)
        np.copyto(out, _bfloat16(value) if dtype == "BF16" else value, casting="unsafe")
        place += piece.size
    return data


def _bfloat16(value: np.ndarray) -> np.ndarray:
    """The upper halves of float32 values, rounded to nearest, ties to even."""
    bits = _round_to_odd(value)
    # The sum carries into the upper half where that must be rounded up.
    rounded: np.ndarray = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded


def _round_to_odd(value: np.ndarray) -> np.ndarray:
    """The bits of values cut off to float32, with the last bit set where something was cut off.

    A second rounding, to fewer bits, then gives what one rounding would. If float32 were rounded to
    nearest, a value beside the middle of two bfloat16 would first become the middle, and then the
    even one. Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms
    using rounding to odd", IEEE Transactions on Computers, 2008.
    """
    near = value.astype(np.float32)
    over = np.abs(near) > np.abs(value)
    cut = np.where(over, np.nextafter(near, np.float32(0)), near)
    bits: np.ndarray = cut.view(np.uint32) | (near != value)
    return bits


def arrays(layout: Layout, data: bytes | bytearray) -> Iterator[tuple[str, np.ndarray]]:
    """Give each tensor of a whole file: its name and its values, flat, as `unpack` gives them."""
    body = memoryview(data)[len(layout.header) :]
    for piece in whole(layout):
        yield piece.tensor.name, unpack(piece, body[piece.tensor.start : piece.tensor.end])
