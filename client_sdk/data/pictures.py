"""The only reader of picture files, for training from a folder and for `predict`.

It turns a picture upright (EXIF), puts transparent parts on white paper, scales values from black
(0) to white (1 or 255), and fits the size to the network's, in this order.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from client_sdk.data.digit_finder import find_digit
from client_sdk.data.preparation import DIGIT_FITS, Preparation, Range, guess_range
from client_sdk.errors import DataError

_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_ORIENTATION = 0x0112  # an EXIF tag
_TURNED = frozenset({5, 6, 7, 8})  # its values for pictures that lie on their side


@dataclass(frozen=True)
class Look:
    """A picture's upright size and, where it has more than 8 bits, its kind and extreme values."""

    size: tuple[int, int]
    grey: bool
    kind: str | None = None
    low: float = 0.0
    high: float = 0.0


def open_picture(path: Path) -> Image.Image:
    """Decode a file's first picture and turn it upright. Raises DataError, which names the file."""
    with _opened(path) as image:
        image.load()
        return ImageOps.exif_transpose(image)


def look_at(path: Path) -> Look:
    """Look at a picture, and decode it only where that is needed. Raises DataError."""
    with _opened(path) as image:
        size, grey, kind = _upright_size(image), image.mode in _GREY_MODES, _deep_kind(image)
        if kind is None:
            return Look(size, grey)
        values = _deep_values(image)
        return Look(size, grey, kind, float(values.min()), float(values.max()))


def read_picture(path: Path, wanted: Preparation) -> np.ndarray:
    """Read a file as the network's input (see `read_pixels`). Raises DataError."""
    image = open_picture(path)
    try:
        return read_pixels(image, wanted)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except MemoryError as error:
        raise DataError(f"{path} is too large a picture for this machine's memory.") from error
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them raise
        raise DataError(f"{path} cannot be read as an image: {error}") from error


def _upright_size(image: Image.Image) -> tuple[int, int]:
    # In a PNG, Pillow would decode all pixels to look for EXIF behind them, where hardly any
    # program puts it.
    if image.format == "PNG" and "exif" not in image.info:
        return image.size
    width, height = image.size
    return (height, width) if image.getexif().get(_ORIENTATION) in _TURNED else (width, height)


@contextmanager
def large_pictures_allowed() -> Iterator[None]:
    """Suppress Pillow's warning about pictures over 89 million pixels, which telephones take.

    Twice as many pixels stay an error. Warning filters belong to the process, so only one thread
    may enter this.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _deep_kind(image: Image.Image) -> str | None:
    """`integer` or `float` where a picture has more than 8 bits: Pillow would clip it at 255."""
    if image.mode == "F":
        return "float"
    return "integer" if image.mode[0] == "I" else None


def _deep_values(image: Image.Image) -> np.ndarray:
    """The stored values of a picture of more than 8 bits, float32 [H, W]. Raises DataError."""
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError("its pixels must be finite numbers.")
    return values


def read_pixels(image: Image.Image, wanted: Preparation) -> np.ndarray:
    """An upright picture as the network's input [H, W, C]: uint8, or float32 in [0, 1] if deep.

    Raises DataError where the network takes neither grey nor colour pictures.
    """
    if wanted.channels not in (1, 3):
        raise DataError(
            f"The model takes pictures of {wanted.channels} channels; "
            "files of pictures have 1 (grey) or 3 (colour)."
        )
    framed = wanted.fit in DIGIT_FITS
    if _deep_kind(image):
        pixels = _deep_pixels(image, wanted)
        if framed:
            return _digit(pixels[..., 0] * 255, wanted)
        planes = [Image.fromarray(np.ascontiguousarray(p)) for p in pixels.transpose(2, 0, 1)]
        return np.stack([np.asarray(fit_picture(plane, wanted)) for plane in planes], axis=2)
    image = _on_paper(image)
    if framed:
        return _digit(np.asarray(image.convert("L"), np.float32), wanted)
    try:
        image = image.convert("L" if wanted.channels == 1 else "RGB")
    except ValueError as error:  # for example CIELAB
        raise DataError(f"its colours cannot be read: {error}.") from error
    return np.asarray(fit_picture(image, wanted)).reshape(wanted.height, wanted.width, -1)


def _on_paper(image: Image.Image) -> Image.Image:
    """Put a transparent picture on white paper."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def fit_picture(image: Image.Image, wanted: Preparation) -> Image.Image:
    """Scale a picture (L, RGB or F): its middle (crop), or all of it between bars (letterbox)."""
    size = (wanted.width, wanted.height)
    if image.size == size:
        return image
    if wanted.fit == "crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    scale = min(wanted.width / image.width, wanted.height / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(inner, Image.Resampling.BILINEAR)
    frame = Image.new(image.mode, size)
    frame.paste(small, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return frame


def fit_arrays(images: np.ndarray, wanted: Preparation) -> np.ndarray:
    """Scale images [N, C, H, W] (uint8 or float32) as `fit_picture` does."""
    out = np.empty((*images.shape[:2], wanted.height, wanted.width), images.dtype)
    for n, image in enumerate(images):
        for c, plane in enumerate(image):
            out[n, c] = np.asarray(fit_picture(Image.fromarray(plane), wanted))
    return out


def scale_values(x: np.ndarray, found: Range) -> None:
    """Scale float values [..., C, H, W] in place, so that black is 0 and white is 1."""
    black, white = (np.array(v, np.float32).reshape(-1, 1, 1) for v in (found.black, found.white))
    x -= black
    x /= np.where(white == black, 1, white - black)


def _deep_pixels(image: Image.Image, wanted: Preparation) -> np.ndarray:
    """Float32 [H, W, C] in [0, 1], by the recorded range or by a guess from this picture."""
    values = _deep_values(image)
    low, high = float(values.min()), float(values.max())
    found = wanted.ranges.get(str(_deep_kind(image))) or guess_range(low, high)
    planes = np.repeat(values[None], wanted.channels, axis=0)
    scale_values(planes, found or Range((low,), (high,)))
    return planes.transpose(1, 2, 0)


def _digit(grey: np.ndarray, wanted: Preparation) -> np.ndarray:
    share, by_mass = DIGIT_FITS[wanted.fit]
    return find_digit(grey, wanted.height, wanted.width, share, by_mass)[:, :, None]
