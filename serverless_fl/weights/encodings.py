"""The layouts of encoded files: deltas, which clients upload, and compressed models.

An encoded file is a safetensors file whose floating-point tensors are float32, float16 or int8. A
file of float16 or int8 has one more tensor, with a scale for each floating-point tensor. Integer
and boolean tensors stay as they are. The metadata name the encoding, so that no reader takes an
encoded file for weights. `serverless_fl.weights.deltas` computes the values. This module needs no
NumPy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from serverless_fl.domain.errors import BadWeights
from serverless_fl.domain.experiment import WEIGHTS
from serverless_fl.weights.header import (
    FLOATS,
    HALVES,
    TYPE_SIZES,
    Kind,
    Layout,
    TensorSpec,
    read_header,
    write_header,
)

KEY = "encoding"  # the metadata's key for the encoding
TYPES = "encoded_dtypes"  # a compressed model's key for the original dtypes that are not float32
SCALES = "__scales__"  # the tensor of scales: float32, one a floating-point tensor, in order
UPDATE_ENCODINGS: Mapping[str, str] = {  # the safetensors dtype of a delta's values
    "delta-float32": "F32",
    "delta-float16": "F16",
    "delta-int8": "I8",
}
# The safetensors dtype of a masked update's words (`serverless_fl.privacy.secure`).
MASKED_ENCODINGS: Mapping[str, str] = {"masked-uint16": "U16", "masked-uint32": "U32"}
# The safetensors dtype of a compressed model's values.
MODEL_ENCODINGS: Mapping[str, str] = {"float16": "F16", "int8": "I8"}
_DTYPES = {**UPDATE_ENCODINGS, **MODEL_ENCODINGS, **MASKED_ENCODINGS}
SCALED = frozenset({"F16", "I8"})
MAX_SCALE = 2.0**111  # the product with the largest float16, or int8, is still a float32


def encoding_of(layout: Layout) -> str:
    """Give the encoding in a file's metadata; WEIGHTS if there is none, or an unknown one."""
    found = layout.metadata.get(KEY, WEIGHTS)
    return found if found in _DTYPES else WEIGHTS


def float_names(layout: Layout) -> list[str]:
    """Give the names of the floating-point tensors, in the order of their scales."""
    return [tensor.name for tensor in layout.tensors if tensor.dtype in FLOATS]


def encoded_layout(layout: Layout, encoding: str) -> Layout:
    """Give the layout of an update, or of a compressed model, from the layout of the model.

    The scales come first, then the tensors in the model's order. A compressed model keeps the
    model's metadata. For WEIGHTS the layout stays as it is.
    Raises BadWeights if the model has a tensor with the name of the scales, or if the encoding is
    unknown (`encoding-mismatch`).
    """
    if encoding == WEIGHTS:
        return layout
    dtype = _DTYPES.get(encoding)
    if dtype is None:
        raise BadWeights(f"There is no encoding {encoding[:40]!r}.", code="encoding-mismatch")
    kinds = [(t.name, t.kind) for t in layout.tensors]
    kinds = [(n, (dtype, shape) if t in FLOATS else (t, shape)) for n, (t, shape) in kinds]
    if dtype in SCALED:
        if any(name == SCALES for name, _ in kinds):
            raise BadWeights(
                f"The model has a tensor {SCALES!r}, but {encoding} needs that name: rename the "
                "tensor."
            )
        kinds.insert(0, (SCALES, ("F32", (len(float_names(layout)),))))
    metadata = {KEY: encoding}
    if encoding in MODEL_ENCODINGS:
        unlike = (FLOATS | {dtype}) - {"F32"}
        others = {t.name: t.dtype for t in layout.tensors if t.dtype in unlike}
        kept = dict(sorted(layout.metadata.items()))
        metadata = {**kept, KEY: encoding, TYPES: json.dumps(others)}
    return _layout(kinds, metadata)


def has_halves(layout: Layout) -> bool:
    """Say whether the model has floating-point tensors of 16 bits."""
    return any(tensor.dtype in HALVES for tensor in layout.tensors)


def state_layout(layout: Layout) -> Layout:
    """Give the layout of an array of a strategy's state from the layout of the model.

    Floating-point tensors of 16 bits are float32 in it, because an array of state sums small values
    over many rounds. For a model without such tensors the layout stays as it is.
    """
    if not has_halves(layout):
        return layout
    kinds = [(t.name, _state_kind(t)) for t in layout.tensors]
    return _layout(kinds, dict(sorted(layout.metadata.items())))


def _state_kind(tensor: TensorSpec) -> Kind:
    return ("F32", tensor.shape) if tensor.dtype in HALVES else tensor.kind


def companion_name(companion: str, tensor: str) -> str:
    """Give the name of a companion's tensor in an update."""
    return f"__{companion}__.{tensor}"


def update_layout(layout: Layout, encoding: str, companions: Sequence[str] = ()) -> Layout:
    """Give the layout of an update from the layout of the model.

    Behind the encoded model it has, for each of the strategy's companions, the floating-point
    tensors again: in the dtypes of the strategy's state, or as float32 in an update that is a
    delta.
    Raises BadWeights as `encoded_layout`, and if the model has a tensor with a companion's name.
    """
    encoded = encoded_layout(layout, encoding)
    if not companions:
        return encoded
    kinds = {tensor.name: tensor.kind for tensor in encoded.tensors}
    for companion in companions:
        for tensor in layout.tensors:
            if tensor.dtype in FLOATS:
                name = companion_name(companion, tensor.name)
                if name in kinds:
                    raise BadWeights(f"The model has a tensor {name[:80]!r}: rename it.")
                kind = _state_kind(tensor)
                kinds[name] = kind if encoding == WEIGHTS else ("F32", tensor.shape)
    return _layout(list(kinds.items()), encoded.metadata)


def decoded_layout(compressed: Layout) -> Layout:
    """Give the layout of the model from the layout of the compressed model.

    Its header holds the same tensors and metadata as the original's, perhaps in other bytes.
    Raises BadWeights if the file is not a compressed model (`encoding-mismatch`), or if it does not
    name the dtypes of the model.
    """
    if encoding_of(compressed) not in MODEL_ENCODINGS:
        raise BadWeights("This file is not a compressed model.", code="encoding-mismatch")
    metadata = {k: v for k, v in compressed.metadata.items() if k not in (KEY, TYPES)}
    try:
        others = json.loads(compressed.metadata.get(TYPES, "{}"))
    except (ValueError, RecursionError):
        others = None
    if not isinstance(others, dict) or not all(o in TYPE_SIZES for o in others.values()):
        raise BadWeights("The compressed model does not name the dtypes of its model.")
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
    """Give the size in bytes of the parts of an update that has `size` bytes.

    `most` is the size of the model's parts. A part of an encoded update holds about as many values
    as a part of the model, so the aggregation of a span reads little more than that span of each
    update. The update has as many parts as the model at most.
    """
    return min(most, math.ceil(most * size / model_bytes))


def require_same_form(expected: Layout, found: Layout) -> None:
    """Raise BadWeights unless an update has the expected encoding and the expected tensors.

    The code is `encoding-mismatch` or `layout-mismatch`.
    """
    wanted, sent = encoding_of(expected), encoding_of(found)
    if wanted != sent:
        raise BadWeights(
            f"The experiment takes updates as {wanted}, but this update is {sent}: encode it "
            "as the round status says, with a client that knows the encoding.",
            code="encoding-mismatch",
        )
    if wanted == WEIGHTS:
        expected.require_same_tensors(found)
    else:
        expected.require_same_tensors(found, f"a {wanted} of the experiment's model")


def is_scales(tensor: TensorSpec, expected: Layout | None) -> bool:
    """Say whether a tensor holds a delta's scales; a plain model may use their name, too."""
    return (
        tensor.name == SCALES and expected is not None and encoding_of(expected) in UPDATE_ENCODINGS
    )
