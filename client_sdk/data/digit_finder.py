"""Finds the digit in a drawing, a scan or a photograph, and frames it as MNIST or digits do."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

_SIDE = 300  # pixels of a photograph's longer side after scaling; thin lines fade at that size
_SMALL = 64  # pixels; a smaller picture is the digit alone, without paper around it
_FAINT = 0.02  # of the paper's light; a smaller difference is not ink
_PALE = 0.15  # of the ink's darkness; a paler pixel is a shade beside the stroke
_SPECK = 0.08  # of the largest piece's ink; a smaller piece does not belong to the digit
_LINE = 0.7  # share of a row or column that a ruled line marks


def find_digit(
    grey: np.ndarray, height: int, width: int, share: float, by_mass: bool
) -> np.ndarray:
    """Find the digit in grey values [H, W] of 0 to 255; gives ink at 255 on 0, uint8.

    The result is [height, width]. The digit's longer side fills `share` of it, and its centre of
    mass (`by_mass`) or its box is in the middle. Uneven light, ruled lines, specks and objects at
    the edges are removed.
    """
    grey = _shrunk(grey.astype(np.float32))
    photograph = min(grey.shape) >= _SMALL
    ink = _main_piece(_without_lines(_contrast(grey))) if photograph else _even(grey)
    return _frame(ink, height, width, share, by_mass)


def _shrunk(grey: np.ndarray) -> np.ndarray:
    scale = _SIDE / max(grey.shape)
    if scale >= 1:
        return grey
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX))


def _dark_ink(grey: np.ndarray) -> bool:
    """Whether ink is darker than paper. The border is paper: a digit seldom covers it."""
    band = max(1, min(grey.shape) // 10)
    inner = np.zeros(grey.shape, bool)
    inner[band:-band, band:-band] = True
    middle = (grey.min() + grey.max()) / 2
    low, median, high = np.percentile(grey[~inner], (25, 50, 75))
    if low < middle < high and min(grey.shape) >= _SMALL:  # something reaches in from the edges
        median = np.median(grey)
    return bool(median > middle)


def _even(grey: np.ndarray) -> np.ndarray:
    """Ink from 0 to 255, for a picture of even light."""
    if _dark_ink(grey):
        grey = 255 - grey
    low, high = np.percentile(grey, 5), grey.max()
    if high - low < 1:
        return np.zeros_like(grey)
    return np.asarray(np.clip((grey - low) * (255 / (high - low)), 0, 255))


def _contrast(grey: np.ndarray) -> np.ndarray:
    """How much darker each pixel is than the paper around it, as a share of the paper's light.

    The paper's light is a plane, times the remaining shades. A morphological closing finds the
    shades: its window is wider than a stroke, so that it bridges the ink.
    """
    if not _dark_ink(grey - _plane(grey, 1)):
        grey = 255 - grey  # chalk
    flat = grey / np.maximum(_plane(grey, 4), 1)
    window = min(grey.shape) // 2
    paper = ndimage.grey_closing(ndimage.gaussian_filter(flat, 1), window, mode="nearest")
    paper = ndimage.uniform_filter(paper, window // 4, mode="nearest")
    return np.asarray(np.clip((paper - flat) / np.maximum(paper, 1e-3), 0, 1))


def _plane(grey: np.ndarray, rounds: int) -> np.ndarray:
    """Fit a plane to the brightness; each further round leaves out what is darker than the last."""
    y, x = (axis.ravel() for axis in np.indices(grey.shape, np.float32))
    columns = np.stack([np.ones_like(x), x, y], axis=1)
    values, fitted = grey.ravel(), np.zeros(grey.size, np.float32)
    for _ in range(rounds):
        paper = values >= 0.9 * fitted
        fitted = columns @ np.linalg.lstsq(columns[paper], values[paper], rcond=None)[0]
    return fitted.reshape(grey.shape)


def _strong(ink: np.ndarray) -> np.ndarray:
    """Where ink stands out from noise, faint lines and shades."""
    noise = 1.5 * float(np.median(np.abs(ink - ndimage.uniform_filter(ink, 3))))
    floor = max(4 * noise, _FAINT)
    found = ink[ink > floor]
    threshold = max(floor, _otsu(found)) if found.size else floor
    return np.asarray(ink > threshold)


def _without_lines(ink: np.ndarray) -> np.ndarray:
    """Replace ruled lines (thin, and marked nearly from end to end) by the rows beside them."""
    marked = _strong(ink)
    thin = max(ink.shape) // 40
    for axis in (0, 1):
        ruled = marked.mean(1 - axis) > _LINE
        ruled &= ~ndimage.binary_opening(ruled, np.ones(thin + 1))  # a stroke of a digit
        ruled = ndimage.binary_dilation(ruled)  # a line's edges are paler
        free = np.flatnonzero(~ruled)
        if ruled.any() and len(free):
            nearest = free[np.abs(free[:, None] - np.arange(len(ruled))).argmin(0)]
            ink = ink.take(nearest, axis)
    return ink


def _main_piece(ink: np.ndarray) -> np.ndarray:
    """The heaviest connected piece of ink, and others of a similar size, from 0 to 255."""
    strong = _strong(ink)
    if not strong.any():
        return np.zeros_like(ink)
    gap = max(1, max(ink.shape) // 75)  # pieces so near are one, as a five and its bar
    near = ndimage.binary_dilation(strong, iterations=gap)
    labels, count = ndimage.label(near, structure=np.ones((3, 3)))
    masses = ndimage.sum_labels(ink * strong, labels, np.arange(count + 1))
    inside = masses.copy()
    inside[_reaching_in(labels)] = 0
    if inside.max() > 0.05 * masses.sum():
        masses = inside
    strong &= (masses > _SPECK * masses.max())[labels]
    white = np.percentile(ink[strong], 90)
    # Pale parts of a stroke are wide, and lie within its width of the dark ones.
    width = 2 * float(ndimage.distance_transform_edt(strong).max())
    ink = ink * (ndimage.distance_transform_edt(~strong) <= width)
    ink = ndimage.grey_opening(ink, 2 * int(width / 8) + 1)
    return np.asarray(np.clip((ink / white - _PALE) / (1 - _PALE), 0, 1) * 255)


def _reaching_in(labels: np.ndarray) -> list[int]:
    """Pieces at a corner of the picture or along a whole edge, as a table beside the paper is."""
    found = {int(labels[y, x]) for y in (0, -1) for x in (0, -1)}
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        most, count = np.unique(edge, return_counts=True)
        found |= set(most[count > 0.8 * len(edge)].tolist())
    return sorted(found)


def _otsu(values: np.ndarray) -> float:
    """The threshold that separates values best (Otsu, IEEE Trans. SMC 9(1), 1979)."""
    counts, edges = np.histogram(values, 64)
    middle = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    total, sums = counts.sum(), np.cumsum(counts * middle)
    between = (sums[-1] * below - total * sums[:-1]) ** 2 / np.maximum(below * (total - below), 1)
    return float(edges[1 + between.argmax()])


def _frame(ink: np.ndarray, height: int, width: int, share: float, by_mass: bool) -> np.ndarray:
    """Cut out the ink, scale its longer side to `share` of the frame, and centre it."""
    marked = ink > 255 * 0.2
    if not marked.any():
        return np.zeros((height, width), np.uint8)
    rows, columns = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    cut = Image.fromarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = min(height * share / cut.height, width * share / cut.width)
    size = (max(1, round(cut.width * scale)), max(1, round(cut.height * scale)))
    small = np.asarray(
        cut.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
    )
    small = np.clip(small, 0, 255)
    middle_y, middle_x = (small.shape[0] - 1) / 2, (small.shape[1] - 1) / 2
    if by_mass:
        total = small.sum()
        middle_y = float((small.sum(1) * np.arange(small.shape[0])).sum() / total)
        middle_x = float((small.sum(0) * np.arange(small.shape[1])).sum() / total)
    top = round((height - 1) / 2 - middle_y)
    left = round((width - 1) / 2 - middle_x)
    top = min(max(top, 0), height - small.shape[0])
    left = min(max(left, 0), width - small.shape[1])
    frame = np.zeros((height, width))
    frame[top : top + small.shape[0], left : left + small.shape[1]] = small
    return frame.astype(np.uint8)
