"""The header of a safetensors file: the one reader and the one writer of it.

The format is https://github.com/huggingface/safetensors#format: eight bytes with the length of the
header (little-endian), the header (JSON: name -> dtype, shape, data_offsets), the tensors' bytes.
The safetensors library reads whole files only. `serverless_fl.weights.check` judges a stranger's
bytes while they stream in, and the aggregation reads a few values without the rest of the file
(docs/decisions/0004). The tests compare this reader and this writer with the library's. This module
needs no NumPy, because a coordinator that answers only polls never loads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serverless_fl.domain.errors import BadWeights

TYPE_SIZES = {  # bytes of one value, by safetensors dtype
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
NUMPY_TYPES = {  # NumPy's names; it has no BF16 and reads the bits as integers
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
HALVES = frozenset({"F16", "BF16"})  # 16 bits: sums of many small values lose digits

MAX_HEADER_BYTES = 4 * 1024 * 1024
MAX_TENSORS = 10_000
MAX_DIMENSIONS = 16
ALIGNMENT = 8  # bytes; the writer pads its header, so that the tensors are aligned in memory

Kind = tuple[str, tuple[int, ...]]  # a dtype and a shape


@dataclass(frozen=True)
class TensorSpec:
    """One tensor's name, safetensors dtype and shape, and where its bytes lie.

    `start` and `end` are counted in bytes from the end of the header.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def kind(self) -> Kind:
        """The dtype and the shape."""
        return self.dtype, self.shape

    @property
    def count(self) -> int:
        """The number of values."""
        return (self.end - self.start) // TYPE_SIZES[self.dtype]


@dataclass(frozen=True)
class Layout:
    """The contents of a header: the tensors in the order of their bytes, and the metadata."""

    header: bytes  # the first bytes of the file: the length field and the JSON
    tensors: tuple[TensorSpec, ...]
    metadata: Mapping[str, str]

    @property
    def data_bytes(self) -> int:
        """The size of all tensors, in bytes."""
        return self.tensors[-1].end if self.tensors else 0

    @property
    def total_bytes(self) -> int:
        """The size of the file, in bytes."""
        return len(self.header) + self.data_bytes

    def require_same_tensors(self, other: Layout, whose: str = "the experiment's model") -> None:
        """Raise BadWeights (`layout-mismatch`) unless `other` has the same names, dtypes, shapes.

        `whose` names the file of this layout in the error.
        """
        mine = {t.name: t.kind for t in self.tensors}
        theirs = {t.name: t.kind for t in other.tensors}
        if mine == theirs:
            return
        for name in mine.keys() | theirs.keys():
            if mine.get(name) != theirs.get(name):
                raise BadWeights(
                    f"Tensor {name[:80]!r} is {_describe(theirs.get(name))}, but {whose} has "
                    f"{_describe(mine.get(name))}.",
                    code="layout-mismatch",
                )

    def with_metadata(self, metadata: Mapping[str, str]) -> Layout:
        """Give the layout of the same tensors in the same order, with other metadata."""
        kinds = [(tensor.name, *tensor.kind) for tensor in self.tensors]
        return Layout(write_header(kinds, metadata), self.tensors, metadata)

    def same_order(self, other: Layout) -> bool:
        """Say whether both files hold the same tensors in the same order."""
        mine, theirs = self.tensors, other.tensors
        return [(t.name, t.end) for t in mine] == [(t.name, t.end) for t in theirs]


def _describe(kind: Kind | None) -> str:
    return "no such tensor" if kind is None else f"{kind[0]} {list(kind[1])}"


def header_length(prefix: bytes) -> int:
    """Give the size of the header in bytes, with its length field, from a file's first eight bytes.

    Raises BadWeights if there are fewer than eight bytes, or if the length is impossible.
    """
    length = int.from_bytes(prefix[:8], "little")
    if len(prefix) < 8 or not 2 <= length <= MAX_HEADER_BYTES:
        raise BadWeights(
            "This is not a safetensors file: the length of its header is missing or beyond "
            f"{MAX_HEADER_BYTES} bytes."
        )
    return 8 + length


def read_header(header: bytes) -> Layout:
    """Read a header (with its length field) strictly.

    Raises BadWeights unless it is well-formed JSON with known dtypes, possible shapes, and offsets
    that cover the data once, without holes or overlaps.
    """
    try:
        text = header[8 : header_length(header)].decode()  # json.loads(bytes) accepts UTF-16, too
        entries = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise BadWeights(f"The safetensors header is not valid JSON: {error}.") from error
    if not isinstance(entries, dict):
        raise BadWeights("The safetensors header is not a JSON object.")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise BadWeights("The safetensors header's __metadata__ must map strings to strings.")
    if len(entries) > MAX_TENSORS:
        raise BadWeights(f"The file has more than {MAX_TENSORS} tensors.")
    tensors = sorted((_tensor(n, e) for n, e in entries.items()), key=lambda t: (t.start, t.end))
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


def _tensor(name: str, entry: Any) -> TensorSpec:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]}:
            if dtype not in TYPE_SIZES:
                raise BadWeights(f"Tensor {name[:80]!r} has the unknown dtype {dtype[:20]!r}.")
            # `type` and not `isinstance`, because Python counts `true` as an integer.
            if len(shape) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
                raise BadWeights(f"Tensor {name[:80]!r} has an impossible shape.")
            if type(start) is not int or type(end) is not int:
                raise BadWeights(f"Tensor {name[:80]!r} has impossible offsets.")
            if start < 0 or end - start != math.prod(shape) * TYPE_SIZES[dtype]:
                raise BadWeights(f"Tensor {name[:80]!r}: its offsets do not fit its shape.")
            return TensorSpec(name, dtype, tuple(shape), start, end)
    raise BadWeights(f"Tensor {name[:80]!r} lacks dtype, shape or data_offsets.")


def layout_of(data: bytes | bytearray) -> Layout:
    """Read the header of a whole file.

    Raises BadWeights for a bad header, and if the file is not as long as the header announces.
    """
    layout = read_header(bytes(data[: header_length(bytes(data[:8]))]))
    if layout.total_bytes != len(data):
        raise BadWeights(
            f"The header announces {layout.total_bytes} bytes, but the file has {len(data)}."
        )
    return layout


def write_header(
    tensors: Iterable[tuple[str, str, Sequence[int]]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Give the header (with its length field) of a file with these tensors, in this order.

    Each tensor is a name, a safetensors dtype and a shape. The metadata keep their order, so the
    same arguments give the same bytes.
    """
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for name, dtype, shape in tensors:
        end = place + math.prod(shape) * TYPE_SIZES[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
