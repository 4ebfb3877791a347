"""Reads a user's own .npz file of plain arrays: images and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from client_sdk.data import npz
from client_sdk.data.dataset import Part, Parts
from client_sdk.data.pictures import fit_arrays, scale_values
from client_sdk.data.preparation import Preparation, Range, guess_range
from client_sdk.errors import DataError

MAX_CLASSES = 8192  # labels count from 0; a larger one is a mistake
_SMALLEST_ROW = 64  # values of the smallest flat picture, 8x8
_NARROW = (1, 15, 16)  # white in bytes of fewer values: masks, 4 bits, scikit-learn's digits
# {} is train, test or val. The names are those of this SDK and Keras, scikit-learn, MedMNIST.
_IMAGES = ("x_{}", "X_{}", "{}_x", "{}_images", "images_{}")
_LABELS = ("y_{}", "Y_{}", "{}_y", "{}_labels", "labels_{}")


def read_arrays(
    path: Path,
    size: tuple[int, int] | None = None,
    fit: str | None = None,
    like: Preparation | None = None,
) -> Parts:
    """Read x_train and y_train, and x_test, y_test, classes, layout where they are there.

    Images are fitted to `size`, a width and a height, where it is given. Values become 0 (black) to
    1 (white), by the ranges of `like` or by those that the training images suggest; bytes stay
    bytes. Raises DataError.
    """
    arrays = npz.load(path)
    found = {part: _find(path, arrays, part) for part in ("train", "test", "val")}
    if found["train"] is None:
        raise DataError(f"{path} has no array 'x_train'; it has {sorted(arrays)}.")
    notes = []
    if found["test"] and found["val"]:
        notes.append("The part val is left out: test is the test part.")
    parts = [found["train"], found["test"] or found["val"]]
    given = [part for part in parts if part is not None]
    layout = str(arrays["layout"]) if "layout" in arrays else None
    images = [_images(path, x, layout, notes) for x, _ in given]
    if len({(x.shape[1:], _kind(x)) for x in images}) > 1:
        raise DataError(f"{path}: test images are not like the training images.")
    names = arrays.get("classes")
    classes, labels = _labels(
        path, [y for _, y in given], None if names is None else np.atleast_1d(names), notes
    )
    ranges = _scale(images, like)
    channels, height, width = images[0].shape[1:]
    if size:
        width, height = size
    wanted = like or Preparation(channels, height, width, fit or "crop", ranges)
    if wanted.channels != channels:
        raise DataError(f"{path}: images have {channels} channels; {wanted.channels} are wanted.")
    if (wanted.height, wanted.width) != images[0].shape[2:]:
        images = [fit_arrays(x, wanted) for x in images]
    done = list(zip(images, labels, strict=True))
    return Parts(classes, done[0], done[1] if len(done) > 1 else None, wanted, " ".join(notes))


def _find(path: Path, arrays: Mapping[str, np.ndarray], part: str) -> Part | None:
    """A part's arrays under their usual names. Raises DataError for one without the other."""
    x = next((n for name in _IMAGES if (n := name.format(part)) in arrays), None)
    y = next((n for name in _LABELS if (n := name.format(part)) in arrays), None)
    if x and y:
        return arrays[x], arrays[y]
    if not x and not y:
        return None
    wanted = f"'x_{part}' and 'y_{part}'"
    if part == "train":
        lacking = "y_train" if x else "x_train"
        raise DataError(f"{path} has no array {lacking!r}; it has {sorted(arrays)}.")
    raise DataError(f"{path} has only one of {wanted}; give both or neither.")


def _images(path: Path, x: np.ndarray, layout: str | None, notes: list[str]) -> np.ndarray:
    """Images as numbers [N, C, H, W], floats as finite float32. Raises DataError."""
    if x.dtype.kind not in "biuf":
        raise DataError(f"{path}: images must be finite numbers, not {x.dtype}.")
    shape = list(x.shape)
    if x.ndim == 2 and x.shape[1] >= _SMALLEST_ROW and math.isqrt(x.shape[1]) ** 2 == x.shape[1]:
        side = math.isqrt(x.shape[1])
        x = x.reshape(-1, side, side)
        notes.append(f"Rows of {side * side} values are read as pictures of {side}x{side}.")
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4:
        x = _channels_first(path, x, layout)
    if x.ndim != 4 or 0 in x.shape:
        raise DataError(
            f"{path}: images must be [N, H, W], [N, H, W, C] or [N, C, H, W], not {shape}."
        )
    if x.dtype == bool:
        x = x * np.uint8(255)
    if x.dtype.kind == "f":
        with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite
            x = x.astype(np.float32)
        if not np.isfinite(x).all():
            first = int(np.argwhere(~np.isfinite(x))[0][0])
            raise DataError(
                f"{path}: images must be finite numbers, but image {first} (from 0) has NaN or "
                "infinity."
            )
    return np.ascontiguousarray(x)


def _channels_first(path: Path, x: np.ndarray, layout: str | None) -> np.ndarray:
    """Images [N, C, H, W] of either layout. Raises DataError where nothing tells which it is.

    The channels are 1 or 3, or fewer than the rows and the columns.
    """
    if layout is None:
        _, a, b, c = x.shape
        if (a in (1, 3)) != (c in (1, 3)):
            layout = "NCHW" if a in (1, 3) else "NHWC"
        elif a in (1, 3) or a < min(b, c):
            layout = "NCHW"
        elif c < min(a, b):
            layout = "NHWC"
        else:
            raise DataError(
                f"{path}: nothing tells the channels of images {list(x.shape)} from height "
                "and width: add an array layout='NCHW' or layout='NHWC'."
            )
    if layout not in ("NCHW", "NHWC"):
        raise DataError(f"{path}: layout must be NCHW or NHWC, not {layout!r}.")
    return x if layout == "NCHW" else x.transpose(0, 3, 1, 2)


def _kind(x: np.ndarray) -> str:
    if x.dtype == np.uint8:
        return "byte"
    return "float" if x.dtype.kind == "f" else "integer"


def _scale(images: list[np.ndarray], like: Preparation | None) -> dict[str, Range]:
    """Scale the images in the list to 0 to 1 (bytes stay bytes); gives the ranges to record."""
    kind = _kind(images[0])
    most = images[0].max()
    if kind == "byte" and most not in _NARROW:
        return {}
    inside = all(x.min() >= 0 and x.max() <= 255 for x in images)
    if kind == "integer" and most > 127 and inside:  # bytes in a wider type
        images[:] = [x.astype(np.uint8) for x in images]
        return {}
    images[:] = [x.astype(np.float32) for x in images]
    found = Range((0.0,), (float(most),)) if kind == "byte" else _range(kind, images[0], like)
    for x in images:
        scale_values(x, found)
    return {} if kind == "byte" else {kind: found}


def _range(kind: str, x: np.ndarray, like: Preparation | None) -> Range:
    """The values of black and white in float32 images [N, C, H, W]."""
    usual = guess_range(float(x.min()), float(x.max()))
    known = like.ranges.get(kind) if like else None
    if known and known.fits(x.shape[1]) and (kind == "integer" or usual is None):
        return known
    # Values of no convention, standardised ones say: each channel's extremes are black and white.
    axes = (0, 2, 3)
    return usual or Range(tuple(x.min(axes).tolist()), tuple(x.max(axes).tolist()))


def _labels(
    path: Path, parts: list[np.ndarray], names: np.ndarray | None, notes: list[str]
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Class names, and the labels of each part as int64 [N]. Raises DataError."""
    parts = [y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y for y in parts]  # Keras's columns
    if all(y.dtype.kind in "US" for y in parts):
        return _named_labels(path, [y.astype(str) for y in parts], names)
    labels = [_numbers(path, y) for y in parts]
    most = max(int(y.max(initial=0)) for y in labels)
    if names is None:
        hot = max(y.shape[1] if y.ndim == 2 else 0 for y in parts)
        names = np.arange(max(most + 1, hot))
        if labels[0].min(initial=most) > 0:
            notes.append("No picture to train on has the label 0: labels count from 0.")
    if len(names) <= most:
        raise DataError(f"{path} names {len(names)} classes, but has the label {most}.")
    return tuple(str(name) for name in names), labels


def _numbers(path: Path, y: np.ndarray) -> np.ndarray:
    """Whole or one-hot numbers as int64 [N]. Raises DataError."""
    if y.ndim == 2 and _one_hot(y):
        y = y.argmax(1)
    if y.ndim != 1 or y.dtype.kind not in "iu" or (len(y) and y.min() < 0):
        if y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "biu" and y.max(initial=0) < 2:
            raise DataError(
                f"{path}: {y.shape[1]} labels a picture, several of which may be true (as in "
                "ChestMNIST), are not supported: these models learn one class a picture. Choose "
                "one column (y[:, [0]]), or write a task of your own (docs/own-model.md)."
            )
        hint = " (y.astype(int))" if y.dtype.kind == "f" else ""
        raise DataError(f"{path}: labels must be one non-negative whole number an image{hint}.")
    if len(y) and y.max() >= MAX_CLASSES:
        raise DataError(f"{path}: labels must be below {MAX_CLASSES}, not {y.max()}.")
    return y.astype(np.int64)


def _one_hot(y: np.ndarray) -> bool:
    return y.dtype.kind in "biuf" and bool(((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all())


def _named_labels(
    path: Path, parts: list[np.ndarray], names: np.ndarray | None
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Labels that are words. The classes are `names`, or the training part's words in order."""
    classes = [str(name) for name in (np.unique(parts[0]) if names is None else names)]
    if any(y.ndim != 1 for y in parts) or len(classes) > MAX_CLASSES:
        raise DataError(f"{path}: labels must be one word an image, of {MAX_CLASSES} at most.")
    number = {name: n for n, name in enumerate(classes)}
    unknown = sorted({str(word) for y in parts for word in np.unique(y)} - set(number))
    if unknown:
        raise DataError(f"{path} has the label {unknown[0]!r}, which is none of its classes.")
    return tuple(classes), [np.array([number[str(w)] for w in y], np.int64) for y in parts]
