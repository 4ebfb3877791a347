"""How an update travels: as weights, or as what it differs by from the round's base model.

The floating-point tensors of a delta are float32, float16 or int8; the last two have a scale each,
in one more tensor. Integer and boolean tensors travel as they are. A delta is a safetensors file
like any other, and its metadata say what it is, so that nobody takes one for weights. The numbers
themselves are `app.wire.deltas`'s business: this file needs no NumPy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from app.domain.errors import BadWeights
from app.domain.experiment import WEIGHTS
from app.wire.codec import FLOATS, TYPE_SIZES, Layout, TensorSpec, parse_header

KEY = "update_encoding"  # in the metadata of a delta's file
SCALES = "__scales__"  # float32, one for each floating-point tensor, in the model's order
DTYPES: Mapping[str, str] = {
    "delta-float32": "F32",
    "delta-float16": "F16",
    "delta-int8": "I8",
}
SCALED = frozenset({"F16", "I8"})
MAX_SCALE = 2.0**111  # times the largest float16, or int8, it is still a float32


def encoding_of(layout: Layout) -> str:
    """What a file says that it is."""
    return layout.metadata.get(KEY, WEIGHTS)


def float_names(layout: Layout) -> list[str]:
    """The tensors that have a scale, in its order."""
    return [tensor.name for tensor in layout.tensors if tensor.dtype in FLOATS]


def encoded(layout: Layout, encoding: str) -> Layout:
    """The file that an update of the model with this layout is; the layout itself for weights.

    The scales come first, then the tensors in the model's order. Raises BadWeights where the model
    has a tensor of the scales' name, or where the encoding is not one of ours.
    """
    if encoding == WEIGHTS:
        return layout
    if encoding not in DTYPES:
        raise BadWeights(f"There is no encoding {encoding[:40]!r}.", code="encoding-mismatch")
    dtype, kinds = DTYPES[encoding], [(t.name, t.kind) for t in layout.tensors]
    kinds = [(n, (dtype, shape) if t in FLOATS else (t, shape)) for n, (t, shape) in kinds]
    if dtype in SCALED:
        if any(name == SCALES for name, _ in kinds):
            raise BadWeights(f"The model's tensor {SCALES!r} has the name that {encoding} needs.")
        kinds.insert(0, (SCALES, ("F32", (len(float_names(layout)),))))
    return _layout(kinds, {KEY: encoding})


def _layout(kinds: list[tuple[str, tuple[str, tuple[int, ...]]]], about: dict[str, str]) -> Layout:
    entries: dict[str, object] = {"__metadata__": about}
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
