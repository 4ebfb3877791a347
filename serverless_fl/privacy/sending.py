"""An update on its way out of a client: its file, and its distance as the coordinator sees it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from serverless_fl.domain.experiment import WEIGHTS
from serverless_fl.privacy.clipping import squared_distance
from serverless_fl.weights import codec, encodings, spans
from serverless_fl.weights.deltas import encode_update
from serverless_fl.weights.header import layout_of


@dataclass(frozen=True)
class Sending:
    """How a client sends an update: the experiment's encoding, and the seed of its rounding.

    All files are safetensors. Methods raise BadWeights for files with different tensors.
    """

    encoding: str = WEIGHTS
    seed: int = 0

    def encode(self, base: bytes, weights: bytes) -> bytes:
        """Give the file to send of `weights`, trained from `base`."""
        if self.encoding == WEIGHTS:
            return weights
        return encode_update(base, weights, self.encoding, self.seed)

    def distance(self, base: bytes, sent: bytes) -> float:
        """Give the distance of a file to send from the base model, as the coordinator measures it.

        It is not finite if a weight is not.
        """
        layout = layout_of(base)
        start, values = dict(codec.arrays(layout, base)), _arrays(sent)
        names = encodings.float_names(layout)
        if self.encoding == WEIGHTS:
            return math.sqrt(sum(squared_distance(values[name], start[name]) for name in names))
        scales = values.get(encodings.SCALES, np.ones(len(names)))
        return math.sqrt(
            sum(
                squared_distance(values[name].astype(np.float64) * float(scale), np.zeros(1))
                for name, scale in zip(names, scales, strict=True)
            )
        )


def clip_file(base: bytes, weights: bytes, scale: float) -> bytes:
    """Give weights at `scale` times their distance from the base. Whole numbers stay."""
    return change_file(base, weights, lambda change: scale * change)


def change_file(base: bytes, weights: bytes, changed: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """Give weights with another change from the base. Whole numbers stay.

    `changed` gets the change of each floating-point tensor, float64 [elements], and gives the one
    to take in its place.
    """
    layout = layout_of(weights)
    start, values = _arrays(base), _arrays(weights)
    for name, own in values.items():
        if own.dtype.kind == "f":
            wide = start[name].astype(np.float64)
            values[name] = wide + changed(own.astype(np.float64) - wide)
    return layout.header + bytes(codec.pack(spans.whole(layout), values))


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    return dict(codec.arrays(layout_of(data), data))
