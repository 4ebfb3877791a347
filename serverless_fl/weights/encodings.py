"""The files of encoded weights: deltas that clients upload, compressed models that they train from.

An encoded file is a safetensors file whose floating-point tensors are float32, float16 or int8. A
file of float16 or int8 has a scale for each of these tensors, in one more tensor. Integer and
boolean tensors stay as they are. The metadata name the encoding, so that nobody takes such a file
for weights. This module knows the layouts; `serverless_fl.weights.deltas` computes the values. It
needs no NumPy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from serverless_fl.domain.errors import BadWeights
from serverless_fl.domain.experiment import WEIGHTS
from serverless_fl.weights.header import (
    FLOATS,
    TYPE_SIZES,
    Kind,
    Layout,
    TensorSpec,
    read_header,
    write_header,
)

KEY = "encoding"  # in the metadata of an encoded file
TYPES = "encoded_dtypes"  # in those of a compressed model: its dtypes that are not float32
SCALES = "__scales__"  # float32, one for each floating-point tensor, in the model's order
UPDATE_ENCODINGS: Mapping[str, str] = {  # the safetensors dtype of an update's values
    "delta-float32": "F32",
    "delta-float16": "F16",
    "delta-int8": "I8",
}
MODEL_ENCODINGS: Mapping[str, str] = {"float16": "F16", "int8": "I8"}  # of a compressed model's
SCALED = frozenset({"F16", "I8"})
MAX_SCALE = 2.0**111  # times the largest float16, or int8, it is still a float32


def encoding_of(layout: Layout) -> str:
    """Give the encoding that a file's metadata name; WEIGHTS where that is none of ours."""
    found = layout.metadata.get(KEY, WEIGHTS)
    return found if found in UPDATE_ENCODINGS or found in MODEL_ENCODINGS else WEIGHTS


def float_names(layout: Layout) -> list[str]:
    """The names of the floating-point tensors, in the order of their scales."""
    return [tensor.name for tensor in layout.tensors if tensor.dtype in FLOATS]


def encoded_layout(layout: Layout, encoding: str) -> Layout:
    """Give the layout of an update of a model, or of the compressed model, in this encoding.

    The scales come first, then the tensors in the model's order. A compressed model keeps the
    model's metadata. For WEIGHTS the layout stays as it is.
    Raises BadWeights where the model has a tensor of the scales' name, or where the encoding is not
    one of ours (`encoding-mismatch`).
    """
    if encoding == WEIGHTS:
        return layout
    dtype = UPDATE_ENCODINGS.get(encoding) or MODEL_ENCODINGS.get(encoding)
    if dtype is None:
        raise BadWeights(f"There is no encoding {encoding[:40]!r}.", code="encoding-mismatch")
    kinds = [(t.name, t.kind) for t in layout.tensors]
    kinds = [(n, (dtype, shape) if t in FLOATS else (t, shape)) for n, (t, shape) in kinds]
    if dtype in SCALED:
        if any(name == SCALES for name, _ in kinds):
            raise BadWeights(f"The model's tensor {SCALES!r} has the name that {encoding} needs.")
        kinds.insert(0, (SCALES, ("F32", (len(float_names(layout)),))))
    metadata = {KEY: encoding}
    if encoding in MODEL_ENCODINGS:
        unlike = (FLOATS | {dtype}) - {"F32"}
        others = {t.name: t.dtype for t in layout.tensors if t.dtype in unlike}
        kept = dict(sorted(layout.metadata.items()))
        metadata = {**kept, KEY: encoding, TYPES: json.dumps(others)}
    return _layout(kinds, metadata)


def decoded_layout(compressed: Layout) -> Layout:
    """Give the layout of the model that a compressed model stands for.

    Its header says the same as the model's own, and may be spelt in another way.
    Raises BadWeights where the file is not a compressed model (`encoding-mismatch`) or does not say
    which dtypes the model has.
    """
    if encoding_of(compressed) not in MODEL_ENCODINGS:
        raise BadWeights("This file is not the encoded copy of a model.", code="encoding-mismatch")
    metadata = {k: v for k, v in compressed.metadata.items() if k not in (KEY, TYPES)}
    try:
        others = json.loads(compressed.metadata.get(TYPES, "{}"))
    except (ValueError, RecursionError):
        others = None
    if not isinstance(others, dict) or not all(o in TYPE_SIZES for o in others.values()):
        raise BadWeights("The copy does not say which dtypes its model has.")
    narrow = MODEL_ENCODINGS[encoding_of(compressed)]
    kinds = [
        (t.name, (others.get(t.name, "F32"), t.shape) if t.dtype == narrow else t.kind)
        for t in compressed.tensors
        if t.name != SCALES
    ]
    return _layout(kinds, metadata)


def _layout(kinds: list[tuple[str, Kind]], metadata: Mapping[str, str]) -> Layout:
    tensors = ((name, dtype, shape) for name, (dtype, shape) in kinds)
    return read_header(write_header(tensors, metadata))


def part_bytes(most: int, size: int, model_bytes: int) -> int:
    """Give the size of an update's parts in bytes, for an update of `size` bytes.

    `most` is the size of the model's parts. An encoded update's part holds about as many values as
    a model's part, so that reading a span of the model reads little more than that span of each
    update. The update has no more parts for it.
    """
    return min(most, math.ceil(most * size / model_bytes))


def require_same_form(expected: Layout, found: Layout) -> None:
    """Raise BadWeights unless an update has the expected encoding and the expected tensors.

    The code is `encoding-mismatch` or `layout-mismatch`.
    """
    wanted, sent = encoding_of(expected), encoding_of(found)
    if wanted != sent:
        raise BadWeights(
            f"The experiment takes updates as {wanted}, but this one is {sent}: train as the "
            "round status says, with a client that knows the encoding.",
            code="encoding-mismatch",
        )
    if wanted == WEIGHTS:
        expected.require_same_tensors(found)
    else:
        expected.require_same_tensors(found, f"a {wanted} of the experiment's model")


def is_scales(tensor: TensorSpec, expected: Layout | None) -> bool:
    """Say whether a tensor holds a delta's scales, and is not a model's own of that name."""
    return (
        tensor.name == SCALES
        and expected is not None
        and encoding_of(expected) in (UPDATE_ENCODINGS)
    )
