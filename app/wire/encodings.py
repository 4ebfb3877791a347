"""How weights travel: as they are, or in fewer bits; updates as what they differ by from the base.

The floating-point tensors of an encoded file are float32, float16 or int8; the last two have a
scale each, in one more tensor. Integer and boolean tensors travel as they are. It is a safetensors
file like any other, and its metadata say what it is, so that nobody takes one for weights. The
numbers themselves are the business of `app.wire.deltas`: this file needs no NumPy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from app.domain.errors import BadWeights
from app.domain.experiment import WEIGHTS
from app.wire.codec import FLOATS, TYPE_SIZES, Layout, TensorSpec, parse_header

KEY = "encoding"  # in the metadata of an encoded file
TYPES = "encoded_dtypes"  # ... of a model: the dtypes that are not float32
SCALES = "__scales__"  # float32, one for each floating-point tensor, in the model's order
DTYPES: Mapping[str, str] = {  # of updates
    "delta-float32": "F32",
    "delta-float16": "F16",
    "delta-int8": "I8",
}
COPIES: Mapping[str, str] = {"float16": "F16", "int8": "I8"}  # of models
SCALED = frozenset({"F16", "I8"})
MAX_SCALE = 2.0**111  # times the largest float16, or int8, it is still a float32


def encoding_of(layout: Layout) -> str:
    """What a file says that it is; what we do not know is somebody's own remark."""
    found = layout.metadata.get(KEY, WEIGHTS)
    return found if found in DTYPES or found in COPIES else WEIGHTS


def float_names(layout: Layout) -> list[str]:
    """The tensors that have a scale, in its order."""
    return [tensor.name for tensor in layout.tensors if tensor.dtype in FLOATS]


def encoded(layout: Layout, encoding: str) -> Layout:
    """The file that an update of the model with this layout is, or a copy of the model itself; the
    layout as it is for weights.

    The scales come first, then the tensors in the model's order. A copy keeps the model's metadata.
    Raises BadWeights where the model has a tensor of the scales' name, or where the encoding is not
    one of ours.
    """
    if encoding == WEIGHTS:
        return layout
    dtype = DTYPES.get(encoding) or COPIES.get(encoding)
    if dtype is None:
        raise BadWeights(f"There is no encoding {encoding[:40]!r}.", code="encoding-mismatch")
    kinds = [(t.name, t.kind) for t in layout.tensors]
    kinds = [(n, (dtype, shape) if t in FLOATS else (t, shape)) for n, (t, shape) in kinds]
    if dtype in SCALED:
        if any(name == SCALES for name, _ in kinds):
            raise BadWeights(f"The model's tensor {SCALES!r} has the name that {encoding} needs.")
        kinds.insert(0, (SCALES, ("F32", (len(float_names(layout)),))))
    about = {KEY: encoding}
    if encoding in COPIES:
        unlike = (FLOATS | {dtype}) - {"F32"}
        others = {t.name: t.dtype for t in layout.tensors if t.dtype in unlike}
        about = {**dict(sorted(layout.metadata.items())), KEY: encoding, TYPES: json.dumps(others)}
    return _layout(kinds, about)


def decoded(copy: Layout) -> Layout:
    """The file that a copy of a model stands for, the model's own header but for its spelling.

    Raises BadWeights where it is not such a copy.
    """
    if encoding_of(copy) not in COPIES:
        raise BadWeights("This file is not the encoded copy of a model.", code="encoding-mismatch")
    about = {k: v for k, v in copy.metadata.items() if k not in (KEY, TYPES)}
    try:
        others = json.loads(copy.metadata.get(TYPES, "{}"))
    except (ValueError, RecursionError):
        others = None
    if not isinstance(others, dict) or not all(o in TYPE_SIZES for o in others.values()):
        raise BadWeights("The copy does not say which dtypes its model has.")
    narrow = COPIES[encoding_of(copy)]
    kinds = [
        (t.name, (others.get(t.name, "F32"), t.shape) if t.dtype == narrow else t.kind)
        for t in copy.tensors
        if t.name != SCALES
    ]
    return _layout(kinds, about)


def _layout(kinds: list[tuple[str, tuple[str, tuple[int, ...]]]], about: dict[str, str]) -> Layout:
    entries: dict[str, object] = {"__metadata__": about} if about else {}
    place = 0
    for name, (dtype, shape) in kinds:
        end = place + math.prod(shape) * TYPE_SIZES[dtype]
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, end]}
        place = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return parse_header(len(header).to_bytes(8, "little") + header)


def part_bytes(most: int, size: int, model_bytes: int) -> int:
    """How large the parts of a delta of `size` should be, where one may have `most` bytes.

    They hold about as many values as the model's parts do, so that whoever averages a span of the
    model reads little more than that of each update. There are no more of them for it.
    """
    return min(most, math.ceil(most * size / model_bytes))


def require_same_form(expected: Layout, found: Layout) -> None:
    """Raise BadWeights unless an update is in the encoding that is expected, with its tensors.

    The code is `encoding-mismatch` or `layout-mismatch`.
    """
    wanted, sent = encoding_of(expected), encoding_of(found)
    if wanted != sent:
        raise BadWeights(
            f"The experiment takes updates as {wanted}, but this one is {sent[:40]}: train as the "
            "round status says, with a client that knows the encoding.",
            code="encoding-mismatch",
        )
    if wanted == WEIGHTS:
        expected.require_same_tensors(found)
    else:
        expected.require_same_tensors(found, f"a {wanted} of the experiment's model")


def is_scales(tensor: TensorSpec, expected: Layout | None) -> bool:
    """Whether these are the scales of a delta, and not a model's own tensor of that name."""
    return tensor.name == SCALES and expected is not None and encoding_of(expected) in DTYPES
