"""The values of encoded files: deltas, which clients upload, and compressed models.

int8 deltas follow QSGD (Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient
Quantization and Encoding", NIPS 2017, arXiv:1610.02132), but the largest value takes the place of
the norm. The client rounds each value up or down at random, so its expectation is exact and the
errors of many clients cancel out. The scale of float16 is a power of two: it costs no precision and
brings every value into float16's range. The coordinator rounds the values of a compressed model to
the nearest, because all clients must train from the same model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from serverless_fl.domain.errors import BadWeights
from serverless_fl.weights import codec, spans
from serverless_fl.weights.check import MAX_F64
from serverless_fl.weights.encodings import (
    MAX_SCALE,
    MODEL_ENCODINGS,
    SCALES,
    UPDATE_ENCODINGS,
    companion_name,
    decoded_layout,
    encoded_layout,
    float_names,
    update_layout,
)
from serverless_fl.weights.header import NUMPY_TYPES, TensorSpec, layout_of

_STEPS = 127  # int8 has as many steps on each side of zero
_TINY = 2.0**-126  # the smallest normal float32
LARGEST = {  # the largest finite value that a model may hold, by dtype
    "F64": MAX_F64,
    "F32": float(np.finfo(np.float32).max),
    "F16": float(np.finfo(np.float16).max),
    "BF16": float((np.array([0x7F7F], np.uint32) << 16).view(np.float32)[0]),
}


def encode_update(base: bytes, weights: bytes, encoding: str, seed: int) -> bytes:
    """Encode `weights`, trained from `base`, as a file to upload (all safetensors).

    `seed` decides the random rounding of int8. Weights that are not finite give a delta that is not
    finite, and the coordinator refuses it (`non-finite`).
    Raises BadWeights if the two files have different tensors, or if the encoding is unknown.
    """
    layout, theirs = layout_of(base), layout_of(weights)
    layout.require_same_tensors(theirs)
    target = encoded_layout(layout, encoding)
    if encoding not in UPDATE_ENCODINGS:
        return weights
    start, values = dict(codec.arrays(layout, base)), dict(codec.arrays(theirs, weights))
    draw = np.random.Generator(np.random.PCG64(seed))
    scales: list[float] = []
    for name, before in start.items():
        if before.dtype.kind != "f":
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            delta = values[name].astype(np.float64) - before
        if UPDATE_ENCODINGS[encoding] == "F32":
            with np.errstate(over="ignore"):
                values[name] = delta.astype(np.float32)
            continue
        values[name], scale = _quantise(delta, UPDATE_ENCODINGS[encoding], draw)
        scales.append(scale)
    values[SCALES] = np.array(scales, np.float32)
    return target.header + bytes(codec.pack(spans.whole(target), values))


def add_companions(
    base: bytes, update: bytes, encoding: str, companions: Mapping[str, Mapping[str, np.ndarray]]
) -> bytes:
    """Put a strategy's companions behind an update that was encoded from `base`.

    Each companion has an array for each floating-point tensor of the model, by its name.
    Raises BadWeights if the model has a tensor with a companion's name.
    """
    layout, own = layout_of(base), layout_of(update)
    target, values = (
        update_layout(layout, encoding, list(companions)),
        dict(codec.arrays(own, update)),
    )
    for companion, arrays in companions.items():
        for name in float_names(layout):
            values[companion_name(companion, name)] = arrays[name]
    return target.header + bytes(codec.pack(spans.whole(target), values))


def scale_for(top: float, dtype: str) -> float:
    """Give a scale (a float32): values up to `top`, divided by it, fit into an I8 or an F16.

    The scale is at most MAX_SCALE. If that is too small for `top`, the caller cuts values off.
    """
    if dtype == "F16":
        _, exponent = np.frexp(top)  # top / scale then lies in [2**14, 2**15)
        return min(max(float(np.ldexp(1.0, int(exponent) - 15)), _TINY), MAX_SCALE)
    scale = np.float32(min(max(top / _STEPS, _TINY), MAX_SCALE))
    if float(scale) * _STEPS < top and scale < MAX_SCALE:  # float32 rounded it down
        scale = np.nextafter(scale, np.float32(np.inf))
    return float(scale)


def round_to_scale(values: np.ndarray, scale: float, dtype: str) -> np.ndarray:
    """Divide values by a scale and bring them into the range of the dtype: float64.

    For I8 they are rounded to the nearest whole number; F16 values are rounded by a later cast.
    """
    divided = values.astype(np.float64) / scale
    if dtype == "F16":
        return np.clip(divided, -LARGEST["F16"], LARGEST["F16"])
    return np.clip(np.rint(divided), -_STEPS, _STEPS)


def _quantise(delta: np.ndarray, dtype: str, draw: np.random.Generator) -> tuple[np.ndarray, float]:
    """Give the values of an update and their scale; the scale is NaN if none fits."""
    top = float(np.max(np.abs(delta), initial=0.0))
    if not top <= MAX_SCALE:
        return np.zeros(delta.size), np.nan
    scale = scale_for(top, dtype)
    if dtype == "F16":
        return round_to_scale(delta, scale, dtype), scale
    steps = np.floor(delta / scale + draw.random(delta.size))
    return np.minimum(steps, _STEPS), scale  # 127 plus nearly one is 128 in float64


def add_delta(delta: np.ndarray, scale: float, base: np.ndarray, dtype: str) -> np.ndarray:
    """Give `base + scale * delta` in float64, for a model of the dtype `dtype`.

    A sum beyond the finite values of the dtype becomes the nearest finite value.
    """
    wide = delta.astype(np.float64)
    wide *= scale
    wide += base
    return np.clip(wide, -LARGEST[dtype], LARGEST[dtype], out=wide)


def decompress_values(values: np.ndarray, scale: float, dtype: str) -> np.ndarray:
    """Give the values of a compressed tensor in the model's dtype (float32 for BF16)."""
    exact = add_delta(values, scale, np.zeros(1), dtype)
    if dtype != "BF16":
        return exact.astype(NUMPY_TYPES[dtype])
    piece = spans.whole_tensor(TensorSpec("", dtype, exact.shape, 0, 2 * exact.size))
    return codec.unpack(piece, memoryview(codec.pack((piece,), {"": exact})))


def compress_model(model: bytes, encoding: str) -> bytes:
    """Compress a whole model; both files are safetensors. Raises BadWeights for a malformed one."""
    layout, dtype = layout_of(model), MODEL_ENCODINGS[encoding]
    target, values = encoded_layout(layout, encoding), dict(codec.arrays(layout, model))
    scales = []
    for name in float_names(layout):
        scales.append(scale_for(float(np.max(np.abs(values[name]), initial=0.0)), dtype))
        values[name] = round_to_scale(values[name], scales[-1], dtype)
    values[SCALES] = np.array(scales, np.float32)
    return target.header + bytes(codec.pack(spans.whole(target), values))


def decompress_model(compressed: bytes) -> bytes:
    """Decompress a whole model; both files are safetensors. Raises BadWeights for a malformed one.

    The weights differ from the original model's by the rounding of `compress_model`.
    """
    layout = layout_of(compressed)
    target, values = decoded_layout(layout), dict(codec.arrays(layout, compressed))
    names, scales = float_names(target), values.pop(SCALES, np.empty(0))
    if len(scales) != len(names):
        raise BadWeights(f"The compressed model has {len(scales)} scales for {len(names)} tensors.")
    dtypes = {tensor.name: tensor.dtype for tensor in target.tensors}
    for name, scale in zip(names, scales, strict=True):
        values[name] = decompress_values(values[name], float(scale), dtypes[name])
    return target.header + bytes(codec.pack(spans.whole(target), values))
