"""The values of tensors: from a file's bytes to NumPy arrays and back.

Files hold little-endian bytes (the safetensors format). NumPy has no bfloat16, so BF16 values are
float32 in memory; `pack` rounds them to the nearest bfloat16, ties to even.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from serverless_fl.weights.header import FLOATS, NUMPY_TYPES, Layout
from serverless_fl.weights.spans import Piece, Span, size, whole


def unpack(piece: Piece, data: memoryview) -> np.ndarray:
    """Give a piece's values [count]: a view of its bytes, or a float32 copy for BF16."""
    flat = np.frombuffer(data, dtype=NUMPY_TYPES[piece.tensor.dtype])
    if piece.tensor.dtype == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat


def round_integers(span: Span, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Round the values of integer and boolean tensors to their dtypes; give the others unchanged.

    Ties go to even. A value beyond the dtype's range becomes the nearest value in it; for I64 and
    U64 the largest is the largest float64 below 2**63 or 2**64.
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
    """Give the bytes of a span. `values` holds the values of each piece by its tensor's name.

    The values are cast to the tensor's dtype.
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
    """Give the upper 16 bits of float32 values, rounded to nearest, ties to even: uint16."""
    bits = _round_to_odd(value)
    # The sum carries into the upper half if that half must be rounded up.
    rounded: np.ndarray = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded


def _round_to_odd(value: np.ndarray) -> np.ndarray:
    """Cut values off to float32, and set the last bit of each inexact one: uint32.

    A second rounding, to bfloat16, then gives the same result as a single rounding. Rounding to the
    nearest float32 would not: a float64 close to the middle of two bfloat16 values would become the
    middle itself, and then the even neighbour. Boldo and Melquiond, "Emulation of FMA and correctly
    rounded sums: proved algorithms using rounding to odd", IEEE Transactions on Computers, 2008.
    """
    near = value.astype(np.float32)
    over = np.abs(near) > np.abs(value)
    cut = np.where(over, np.nextafter(near, np.float32(0)), near)
    bits: np.ndarray = cut.view(np.uint32) | (near != value)
    return bits


def arrays(layout: Layout, data: bytes | bytearray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the values [count] of each tensor of a whole file, as `unpack` does."""
    body = memoryview(data)[len(layout.header) :]
    for piece in whole(layout):
        yield piece.tensor.name, unpack(piece, body[piece.tensor.start : piece.tensor.end])
