"""The numbers of encoded files: deltas that clients write and the coordinator adds to the base
model, and copies of models that the coordinator writes and clients train from.

int8 deltas follow QSGD (Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient
Quantization and Encoding", NIPS 2017, arXiv:1610.02132) with the largest value in the place of the
norm: a value is rounded up or down at random, such that it is right on average, so that errors of
many clients cancel out. float16 has a power of two for a scale, which costs no precision and leaves
no value out of range. Models are rounded to the nearest: all clients shall train from the same one.
"""

from __future__ import annotations

import numpy as np

from app.domain.errors import BadWeights
from app.wire import codec, spans
from app.wire.check import MAX_F64
from app.wire.encodings import (
    COPIES,
    DTYPES,
    MAX_SCALE,
    SCALES,
    decoded,
    encoded,
    encoding_of,
    float_names,
)

_STEPS = 127  # of int8 on either side of zero
_TINY = 2.0**-126  # the least float32 with all its bits
LARGEST = {  # the finite values of a dtype end here
    "F64": MAX_F64,
    "F32": float(np.finfo(np.float32).max),
    "F16": float(np.finfo(np.float16).max),
    "BF16": float((np.array([0x7F7F], np.uint32) << 16).view(np.float32)[0]),
}


def encode(base: bytes, weights: bytes, encoding: str, seed: int) -> bytes:
    """The file to upload for `weights` (safetensors), trained from `base`; a function of the seed.

    Weights that diverged give a delta that is not finite, which the coordinator refuses and notes
    as it does the weights themselves. Raises BadWeights where the two have other tensors, or the
    encoding is none of ours.
    """
    layout, theirs = codec.layout_of(base), codec.layout_of(weights)
    layout.require_same_tensors(theirs)
    target = encoded(layout, encoding)
    if encoding not in DTYPES:
        return weights
    start, values = dict(spans.arrays(layout, base)), dict(spans.arrays(theirs, weights))
    draw = np.random.Generator(np.random.PCG64(seed))
    scales: list[float] = []
    for name, before in start.items():
        if before.dtype.kind != "f":
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            delta = values[name].astype(np.float64) - before
        if DTYPES[encoding] == "F32":
            with np.errstate(over="ignore"):
                values[name] = delta.astype(np.float32)
            continue
        values[name], scale = _scaled(delta, DTYPES[encoding], draw)
        scales.append(scale)
    values[SCALES] = np.array(scales, np.float32)
    return target.header + bytes(spans.pack(spans.whole(target), values))


def scale_for(top: float, dtype: str) -> float:
    """By what values up to `top` are divided, so that an I8 or F16 holds them; a float32.

    Where it would be beyond MAX_SCALE, the largest values will be cut off.
    """
    if dtype == "F16":
        _, exponent = np.frexp(top)  # the largest comes to lie in [2**14, 2**15)
        return min(max(float(np.ldexp(1.0, int(exponent) - 15)), _TINY), MAX_SCALE)
    scale = np.float32(min(max(top / _STEPS, _TINY), MAX_SCALE))
    if float(scale) * _STEPS < top and scale < MAX_SCALE:  # it was rounded down
        scale = np.nextafter(scale, np.float32(np.inf))
    return float(scale)


def nearest(values: np.ndarray, scale: float, dtype: str) -> np.ndarray:
    """Values as steps of the scale, or as what a float16 has next to them, in float64."""
    divided = values.astype(np.float64) / scale
    if dtype == "F16":
        return np.clip(divided, -LARGEST["F16"], LARGEST["F16"])
    return np.clip(np.rint(divided), -_STEPS, _STEPS)


def _scaled(delta: np.ndarray, dtype: str, draw: np.random.Generator) -> tuple[np.ndarray, float]:
    """The values as they travel, and their scale: NaN where there is none that fits."""
    top = float(np.max(np.abs(delta), initial=0.0))
    if not top <= MAX_SCALE:
        return np.zeros(delta.size), np.nan
    scale = scale_for(top, dtype)
    if dtype == "F16":
        return nearest(delta, scale, dtype), scale
    steps = np.floor(delta / scale + draw.random(delta.size))
    return np.minimum(steps, _STEPS), scale  # 127 plus nearly one is 128 in float64


def restore(delta: np.ndarray, scale: float, base: np.ndarray, dtype: str) -> np.ndarray:
    """The weights of a delta's values, in float64; `dtype` is the model's.

    What lies beyond the finite values of that type becomes the nearest of them.
    """
    wide = delta.astype(np.float64)
    wide *= scale
    wide += base
    return np.clip(wide, -LARGEST[dtype], LARGEST[dtype], out=wide)


def trained_from(values: np.ndarray, scale: float, dtype: str) -> np.ndarray:
    """A copy's values as the model's dtype has them: what clients train from, to the bit."""
    exact = restore(values, scale, np.zeros(1), dtype)
    if dtype != "BF16":
        return exact.astype(codec.NUMPY_TYPES[dtype])
    size = 2 * exact.size
    piece = spans.whole_tensor(codec.TensorSpec("", dtype, exact.shape, 0, size))
    return spans.unpack(piece, memoryview(spans.pack((piece,), {"": exact})))


def copy_of(model: bytes, encoding: str) -> bytes:
    """The copy of a whole model. Raises BadWeights."""
    layout, dtype = codec.layout_of(model), COPIES[encoding]
    target, values = encoded(layout, encoding), dict(spans.arrays(layout, model))
    scales = []
    for name in float_names(layout):
        scales.append(scale_for(float(np.max(np.abs(values[name]), initial=0.0)), dtype))
        values[name] = nearest(values[name], scales[-1], dtype)
    values[SCALES] = np.array(scales, np.float32)
    return target.header + bytes(spans.pack(spans.whole(target), values))


def decode(copy: bytes) -> bytes:
    """The weights (safetensors) that a copy of a model stands for. Raises BadWeights."""
    layout = codec.layout_of(copy)
    target, values = decoded(layout), dict(spans.arrays(layout, copy))
    names, scales = float_names(target), values.pop(SCALES, np.empty(0))
    if len(scales) != len(names) or encoding_of(layout) not in COPIES:
        raise BadWeights("The copy has not a scale for each of its tensors.")
    dtypes = {tensor.name: tensor.dtype for tensor in target.tensors}
    for name, scale in zip(names, scales, strict=True):
        values[name] = trained_from(values[name], float(scale), dtypes[name])
    return target.header + bytes(spans.pack(spans.whole(target), values))
