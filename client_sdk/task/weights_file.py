"""Weights as safetensors bytes: named NumPy arrays in, named NumPy arrays out.

NumPy has no bfloat16. Values of that type are arrays of `BFLOAT16` here, which hold the bits;
arrays of ml_dtypes, which JAX has, are written as what they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from client_sdk.errors import DataError
from serverless_fl.domain.errors import BadWeights
from serverless_fl.weights.header import FLOATS, NUMPY_TYPES, Layout, layout_of, write_header

Form = dict[str, tuple[str, tuple[int, ...]]]
"""The dtype, as safetensors names it, and the shape of each tensor."""

BFLOAT16 = np.dtype([("bfloat16", "<u2")])

_KINDS = {np.dtype(name): kind for kind, name in NUMPY_TYPES.items() if kind != "BF16"}
# The safetensors library writes wide types first, in this order, and equal ones by name.
_ORDER = (
    *("U64", "I64", "F64", "F32", "U32", "I32"),
    *("BF16", "F16", "U16", "I16", "I8", "U8", "BOOL"),
)


def form(weights: Mapping[str, np.ndarray]) -> Form:
    """The form of weights. Raises DataError where a tensor is none."""
    if not isinstance(weights, Mapping) or not weights:
        raise DataError("A task's weights are a dict of named arrays, with at least one.")
    return {name: (_kind(name, array), tuple(array.shape)) for name, array in weights.items()}


def write(weights: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a file. The same weights and metadata give the same bytes. Raises DataError."""
    found = sorted(form(weights).items(), key=lambda item: (_ORDER.index(item[1][0]), item[0]))
    header = write_header(
        ((name, kind, shape) for name, (kind, shape) in found),
        dict(sorted((metadata or {}).items())),
    )
    return header + b"".join(_bytes(weights[name]) for name, _ in found)


def read(data: bytes, whose: str = "The file") -> dict[str, np.ndarray]:
    """The tensors of a file, as arrays of their own. Raises DataError where it is no such file."""
    layout = read_layout(data, whose)
    body = memoryview(data)[len(layout.header) :]
    return {
        tensor.name: np.frombuffer(
            body[tensor.start : tensor.end],
            BFLOAT16 if tensor.dtype == "BF16" else NUMPY_TYPES[tensor.dtype],
        )
        .reshape(tensor.shape)
        .copy()
        for tensor in layout.tensors
    }


def is_finite(data: bytes) -> bool:
    """Whether the floating-point tensors of a file hold finite numbers; BF16 is not looked at."""
    layout = read_layout(data)
    body = memoryview(data)[len(layout.header) :]
    return all(
        np.isfinite(np.frombuffer(body[t.start : t.end], NUMPY_TYPES[t.dtype])).all()
        for t in layout.tensors
        if t.dtype in FLOATS - {"BF16"}
    )


def read_layout(data: bytes, whose: str = "The file") -> Layout:
    """The header of a file. Raises DataError."""
    try:
        return layout_of(data)
    except BadWeights as error:
        raise DataError(f"{whose} is no file of weights. {error.message}") from error


def _kind(name: object, array: object) -> str:
    if not isinstance(name, str):
        raise DataError(f"The name of a tensor is a string, not {name!r}.")
    if not isinstance(array, np.ndarray | np.generic):
        raise DataError(f"The weights {name!r} are a {type(array).__name__}, not a NumPy array.")
    if array.dtype == BFLOAT16 or array.dtype.name == "bfloat16":
        return "BF16"
    kind = _KINDS.get(array.dtype.newbyteorder("<"))
    if kind is None:
        raise DataError(f"The weights {name!r} are of the type {array.dtype}: only numbers travel.")
    return kind


def _bytes(array: np.ndarray) -> bytes:
    """The values in their order, little-endian."""
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).tobytes()
