"""A digit in a drawing, a scan or a photograph, cut out and framed as the sets frame theirs."""

from __future__ import annotations

import numpy as np
from PIL import Image


def find_digit(
    grey: np.ndarray, height: int, width: int, share: float, by_mass: bool
) -> np.ndarray:
    """Ink at 255 on paper at 0, uint8 [height, width], of grey values [H, W] in 0 to 255.

    The digit's longer side fills `share` of the frame; its centre of mass, or its box, is centred.
    """
    return _frame(_ink(grey), height, width, share, by_mass)


def _ink(grey: np.ndarray) -> np.ndarray:
    """Greyscale [H, W] float with ink at 255 on paper at 0, whichever was the darker one.

    The border tells the paper: a digit seldom covers it.
    """
    grey = grey.astype(np.float64)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.median(border) > (grey.min() + grey.max()) / 2:
        grey = 255 - grey
    # Paper is not quite even in photographs; what is far below the ink counts as none.
    low, high = np.percentile(grey, 5), grey.max()
    if high - low < 1:
        return np.zeros_like(grey)
    return np.asarray(np.clip((grey - low) * (255 / (high - low)), 0, 255))


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
