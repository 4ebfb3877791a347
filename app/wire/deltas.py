"""The numbers of a delta: written by a client, added to the base model by the coordinator.

int8 follows QSGD (Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient Quantization and
Encoding", NIPS 2017, arXiv:1610.02132) with the largest value in the place of the norm: a value is
rounded up or down at random, such that it is right on average, so that errors of many clients
cancel out. float16 has a power of two for a scale, which costs no precision and leaves no value out
of range.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from app.wire import codec, spans
from app.wire.check import MAX_F64
from app.wire.encodings import DTYPES, MAX_SCALE, SCALES, encoded

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
        rounded = _as_int8 if DTYPES[encoding] == "I8" else _as_float16
        values[name], scale = _scaled(delta, rounded, draw)
        scales.append(scale)
    values[SCALES] = np.array(scales, np.float32)
    return target.header + bytes(spans.pack(spans.whole(target), values))


Rounding = Callable[[np.ndarray, float, np.random.Generator], tuple[np.ndarray, float]]


def _scaled(
    delta: np.ndarray, rounded: Rounding, draw: np.random.Generator
) -> tuple[np.ndarray, float]:
    """The values as they travel, and their scale: NaN where there is none that fits."""
    top = float(np.max(np.abs(delta), initial=0.0))
    if not top <= MAX_SCALE:
        return np.zeros(delta.size), np.nan
    return rounded(delta, top, draw)


def _as_int8(delta: np.ndarray, top: float, draw: np.random.Generator) -> tuple[np.ndarray, float]:
    scale = np.float32(max(top / _STEPS, _TINY))
    if float(scale) * _STEPS < top:  # it was rounded down
        scale = np.nextafter(scale, np.float32(np.inf))
    steps = np.floor(delta / float(scale) + draw.random(delta.size))
    return np.minimum(steps, _STEPS), float(scale)  # 127 plus nearly one is 128 in float64


def _as_float16(
    delta: np.ndarray, top: float, draw: np.random.Generator
) -> tuple[np.ndarray, float]:
    _, exponent = np.frexp(top)
    scale = max(float(np.ldexp(1.0, exponent - 15)), _TINY)  # the largest is in [2**14, 2**15)
    return delta / scale, scale


def restore(delta: np.ndarray, scale: float, base: np.ndarray, dtype: str) -> np.ndarray:
    """The weights of a delta's values, in float64; `dtype` is the model's.

    What lies beyond the finite values of that type becomes the nearest of them.
    """
    wide = delta.astype(np.float64)
    wide *= scale
    wide += base
    return np.clip(wide, -LARGEST[dtype], LARGEST[dtype], out=wide)
