"""A folder of images, `train/CLASS/*.png` and `test/CLASS/*.png`, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from client_sdk.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
Part = tuple[torch.Tensor, torch.Tensor]


def read_folder(root: Path) -> tuple[tuple[str, ...], Part, Part | None]:
    """Class names, the training part and, where there is one, the test part.

    All images get the size of the first, and are greyscale where each class's first is, else RGB.
    Raises DataError.
    """
    train = root / "train"
    if not train.is_dir():
        raise DataError(f"{root} has no folder train/; expected train/CLASS/*.png.")
    classes = tuple(sorted(p.name for p in train.iterdir() if p.is_dir()))
    if not classes:
        raise DataError(f"{train} has no class folders; expected train/CLASS/*.png.")
    files = _files(train, classes)
    if not files:
        raise DataError(f"{train} has no images.")
    first = _open(files[0][0])
    # One look a class: a grey picture that sorts first must not cost the others their colour.
    firsts = {label: path for path, label in reversed(files)}
    grey = all(_open(path).mode in ("1", "L", "I", "I;16", "LA") for path in firsts.values())
    mode = "L" if grey else "RGB"
    test = None
    if (root / "test").is_dir():
        unknown = {p.name for p in (root / "test").iterdir() if p.is_dir()} - set(classes)
        if unknown:
            raise DataError(f"{root / 'test'} has classes that train/ lacks: {sorted(unknown)}.")
        test = _read(_files(root / "test", classes), mode, first.size)
    return classes, _read(files, mode, first.size), test


def _files(part: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    return [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((part / name).glob("*"))
        if path.suffix.lower() in SUFFIXES
    ]


def _read(files: list[tuple[Path, int]], mode: str, size: tuple[int, int]) -> Part:
    channels = 1 if mode == "L" else 3
    images = np.empty((len(files), size[1], size[0], channels), np.uint8)

    def read(number: int) -> None:
        image = _open(files[number][0]).convert(mode)
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        images[number] = np.asarray(image).reshape(size[1], size[0], channels)

    # Pillow lets go of the interpreter lock while it decodes.
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(read, range(len(files))):
            pass
    labels = torch.tensor([label for _, label in files], dtype=torch.int64)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy() if image.mode == "P" else image
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
