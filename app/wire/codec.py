"""Weights on the wire: safetensors bytes, read without trusting them.

The format is https://github.com/huggingface/safetensors#format: eight bytes with the header's
length (little-endian), the header (JSON: name -> dtype, shape, data_offsets), the tensors' bytes.
This reader is our own because strangers' bytes must be judged as they stream in (`app.wire.check`),
and the aggregation must find any element's bytes without the rest (docs/decisions/0004,
`app.wire.spans`); the tests hold it against the safetensors library in both directions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.errors import BadWeights

TYPE_SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
NUMPY_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})

MAX_HEADER_BYTES = 4 * 1024 * 1024
MAX_TENSORS = 10_000
MAX_DIMENSIONS = 16


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: its name, safetensors dtype, shape, and its bytes' place behind the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def kind(self) -> tuple[str, tuple[int, ...]]:
        return self.dtype, self.shape


@dataclass(frozen=True)
class Layout:
    """A file's header: its tensors in the order of their bytes, its metadata, its length."""

    header: bytes  # the length field and the JSON, as they stand at the start of the file
    tensors: tuple[TensorSpec, ...]
    metadata: Mapping[str, str]

    @property
    def data_bytes(self) -> int:
        return self.tensors[-1].end if self.tensors else 0

    @property
    def total_bytes(self) -> int:
        return len(self.header) + self.data_bytes

    def require_same_tensors(self, other: Layout, whose: str = "the experiment's model") -> None:
        """Raise BadWeights(layout-mismatch) unless `other` has the same names, dtypes, shapes."""
        mine = {t.name: t.kind for t in self.tensors}
        theirs = {t.name: t.kind for t in other.tensors}
        if mine == theirs:
            return
        for name in mine.keys() | theirs.keys():
            if mine.get(name) != theirs.get(name):
                raise BadWeights(
                    f"Tensor {name[:80]!r} is {_say(theirs.get(name))}, but {whose} has "
                    f"{_say(mine.get(name))}.",
                    code="layout-mismatch",
                )

    def same_order(self, other: Layout) -> bool:
        """Whether the same tensors' bytes lie in the same places behind the header."""
        mine, theirs = self.tensors, other.tensors
        return [(t.name, t.end) for t in mine] == [(t.name, t.end) for t in theirs]


def _say(kind: tuple[str, tuple[int, ...]] | None) -> str:
    return "no such tensor" if kind is None else f"{kind[0]} {list(kind[1])}"


def header_length(prefix: bytes) -> int:
    """How many bytes the header takes in all, of a file's first eight. Raises BadWeights."""
    length = int.from_bytes(prefix[:8], "little")
    if len(prefix) < 8 or not 2 <= length <= MAX_HEADER_BYTES:
        raise BadWeights(
            "These are not safetensors bytes: the header's length is missing or beyond "
            f"{MAX_HEADER_BYTES} bytes."
        )
    return 8 + length


def parse_header(header: bytes) -> Layout:
    """Read a header (with its length field) strictly.

    Raises BadWeights for anything but well-formed JSON with known dtypes, sane shapes and offsets
    that cover the data once, without holes or overlaps.
    """
    try:
        text = header[8 : header_length(header)].decode()  # left to json, UTF-16 would pass as well
        entries = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise BadWeights(f"The safetensors header is not valid JSON: {error}.") from error
    if not isinstance(entries, dict):
        raise BadWeights("The safetensors header is not a JSON object.")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise BadWeights("The safetensors header's __metadata__ must map strings to strings.")
    if len(entries) > MAX_TENSORS:
        raise BadWeights(f"More than {MAX_TENSORS} tensors.")
    tensors = sorted((_spec(n, e) for n, e in entries.items()), key=lambda t: (t.start, t.end))
    place = 0
    for tensor in tensors:
        if tensor.start != place:
            raise BadWeights(f"Tensor {tensor.name[:80]!r} leaves a hole or overlaps another.")
        place = tensor.end
    return Layout(bytes(header), tuple(tensors), metadata)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name occurs twice")
    return entries


def _spec(name: str, entry: Any) -> TensorSpec:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]}:
            if dtype not in TYPE_SIZES:
                raise BadWeights(f"Tensor {name[:80]!r} has dtype {dtype[:20]!r}, not one of ours.")
            if len(shape) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
                raise BadWeights(f"Tensor {name[:80]!r} has an impossible shape.")
            if start < 0 or end - start != math.prod(shape) * TYPE_SIZES[dtype]:
                raise BadWeights(f"Tensor {name[:80]!r}: its offsets do not fit its shape.")
            return TensorSpec(name, dtype, tuple(shape), start, end)
    raise BadWeights(f"Tensor {name[:80]!r} lacks dtype, shape or data_offsets.")


def layout_of(data: bytes | bytearray) -> Layout:
    """The layout of a whole file. Raises BadWeights, also where its length is not what it says."""
    layout = parse_header(bytes(data[: header_length(bytes(data[:8]))]))
    if layout.total_bytes != len(data):
        raise BadWeights(
            f"The header announces {layout.total_bytes} bytes, but there are {len(data)}."
        )
    return layout
