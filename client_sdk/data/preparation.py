"""Describes how a stored picture becomes a network's input: size, channels, fit, black and white.

A model file records it, so that prediction prepares pictures as training did.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from client_sdk.errors import DataError

FITS = ("letterbox", "crop")  # what a user may choose
# How the sets frame a digit: the share of the frame that its longer side fills, and whether its
# centre of mass (True) or its box (False) stands in the middle. MNIST: 20 of 28 pixels, by mass
# (http://yann.lecun.com/exdb/mnist/).
DIGIT_FITS: Mapping[str, tuple[float, bool]] = {"mnist": (20 / 28, True), "digits": (1.0, False)}
MAX_SIDE = 8192  # pixels

# Black and white of the usual ways to store pixels; the last ones are 10, 12, 14 and 16 bits.
_DEEP = (1023.0, 4095.0, 16383.0, 65535.0)


@dataclass(frozen=True)
class Range:
    """The stored values of a black and a white pixel: one for all channels, or one a channel."""

    black: tuple[float, ...]
    white: tuple[float, ...]

    def fits(self, channels: int) -> bool:
        """Whether it applies to that many channels."""
        return len(self.black) == len(self.white) and len(self.black) in (1, channels)


@dataclass(frozen=True)
class Preparation:
    """Channels, height and width of the input; how other pictures are fitted; ranges of values.

    `fit` is `letterbox` (the whole picture between black bars), `crop` (the middle of it), or the
    name of a set whose digits are cut out and framed as that set frames them. `ranges` is by kind
    of stored value, `integer` (of more than 8 bits) and `float`; 8 bits are always 0 to 255.
    """

    channels: int
    height: int
    width: int
    fit: str = "letterbox"
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def ranges_json(self) -> str:
        """The ranges as JSON, which `parse_ranges` reads."""
        return json.dumps({kind: [r.black, r.white] for kind, r in sorted(self.ranges.items())})


def parse_ranges(text: str, channels: int) -> dict[str, Range]:
    """Read the JSON of `ranges_json`, perhaps a stranger's.

    Raises ValueError, TypeError, AttributeError, OverflowError or RecursionError.
    """
    found = {}
    for kind, (black, white) in json.loads(text).items():
        one = Range(tuple(map(float, black)), tuple(map(float, white)))
        if not one.fits(channels) or not all(map(math.isfinite, one.black + one.white)):
            raise ValueError(f"a range of {kind} values that fits no {channels} channels")
        found[str(kind)] = one
    return found


def guess_range(low: float, high: float) -> Range | None:
    """The convention that values from `low` to `high` follow; None where none is likely.

    Filters overshoot, so values may lie a little outside. Zero is black. White is 255, 1023, 4095,
    16383 or 65535 where the largest value is beyond half of it.
    """
    # Values that end below 1 are a dark set, unless some are negative: then they are centred.
    if low >= -0.25 and 0.05 < high <= 1.25 and (low >= -0.01 or high > 0.5):
        return Range((0.0,), (1.0,))
    if -1.25 <= low < -0.75 and high <= 1.25:
        return Range((-1.0,), (1.0,))
    if low >= -25 and 127 < high <= 280:
        return Range((0.0,), (255.0,))
    for white in _DEEP:
        if low >= -0.02 * white and white / 2 < high <= 1.02 * white:
            return Range((0.0,), (white,))
    if low >= 0:
        return Range((0.0,), (high,))
    return None


def parse_size(text: str) -> tuple[int, int]:
    """Read a width and height such as "64" or "64x48". Raises DataError."""
    parts = text.lower().split("x")
    if len(parts) <= 2 and all(p.isascii() and p.isdigit() and len(p) < 6 for p in parts):
        width, height = int(parts[0]), int(parts[-1])
        if 1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE:
            return width, height
    raise DataError(f"--image-size is a width and height such as 64 or 64x48, not {text!r}.")
