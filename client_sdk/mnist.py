"""MNIST's four files as they lie on disk, of any of the names that they are handed out by.

The format is IDX (http://yann.lecun.com/exdb/mnist/): two zero bytes, a type, a number of
dimensions, the dimensions as big-endian uint32, then the values.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from client_sdk.errors import DataError

FILES = {"train-images": 3, "train-labels": 1, "t10k-images": 3, "t10k-labels": 1}  # dimensions
_UNSIGNED_BYTE = 8
_FOLDERS = (Path("MNIST/raw"), Path(), Path("MNIST"), Path("mnist"), Path("raw"))
_LARGEST = 2**30  # bytes of a file, unpacked

Part = tuple[np.ndarray, np.ndarray]


def find_files(data_dir: Path) -> dict[str, Path] | None:
    """The four files in `data_dir` or in a folder below it that is usual; None where one lacks."""
    for folder in _FOLDERS:
        found = {name: _find(data_dir / folder, name, n) for name, n in FILES.items()}
        there = {name: path for name, path in found.items() if path}
        if len(there) == len(FILES):
            return there
    return None


def read_files(files: dict[str, Path]) -> tuple[Part, Part]:
    """(images [N, H, W], labels [N]) of the training and of the test part. Raises DataError."""
    train_x, train_y, test_x, test_y = (_read_idx(files[name], n) for name, n in FILES.items())
    for part, x, y in (("train", train_x, train_y), ("t10k", test_x, test_y)):
        if len(x) != len(y):
            raise DataError(
                f"{files[f'{part}-images']} has {len(x)} images, but {files[f'{part}-labels']} has "
                f"{len(y)} labels: they do not belong together."
            )
        if y.max(initial=0) > 9:
            raise DataError(
                f"{files[f'{part}-labels']} has the label {y.max()}: MNIST's are 0 to 9."
            )
    if train_x.shape[1:] != test_x.shape[1:]:
        raise DataError(f"{files['t10k-images']}: its images are not of the training images' size.")
    return (train_x, train_y), (test_x, test_y)


def _find(folder: Path, name: str, dimensions: int) -> Path | None:
    for stem in (f"{name}-idx{dimensions}-ubyte", f"{name}.idx{dimensions}-ubyte"):
        # Kaggle's archive unpacks to a folder a file.
        for path in (folder / stem, folder / stem / stem, folder / f"{stem}.gz"):
            if path.is_file():
                return path
    return None


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    data = _unpacked(path)
    start = 4 + 4 * dimensions
    if len(data) < start or data[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        raise DataError(f"{path} is not an IDX file of bytes in {dimensions} dimensions.")
    shape = [int.from_bytes(data[n : n + 4]) for n in range(4, start, 4)]
    if len(data) - start != math.prod(shape):
        raise DataError(
            f"{path} holds {len(data) - start} values, but its head announces {math.prod(shape)} "
            f"({'x'.join(map(str, shape))}): it is cut short or damaged; fetch it again."
        )
    if 0 in shape:
        raise DataError(f"{path} is empty: it announces {'x'.join(map(str, shape))} values.")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()  # to be written to


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(data) > _LARGEST:
        raise DataError(f"{path} is larger than any file of MNIST.")
    return data
