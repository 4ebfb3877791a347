"""MNIST from its four files, under any of their usual names and in any of the usual folders.

The format is IDX (http://yann.lecun.com/exdb/mnist/): two zero bytes, a type, a number of
dimensions, the dimensions as big-endian uint32, then the values.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np

from client_sdk.data.dataset import Part, Parts
from client_sdk.data.download import download
from client_sdk.data.preparation import Preparation
from client_sdk.errors import DataError

CLASSES = tuple("0123456789")
FILES = {"train-images": 3, "train-labels": 1, "t10k-images": 3, "t10k-labels": 1}  # dimensions
# Bytes and MD5 of the published files, unpacked.
PUBLISHED = {
    "train-images": (47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels": (60_008, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images": (7_840_016, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels": (10_008, "27ae3e4e09519cfbb04c329615203637"),
}
_SOURCE = "https://ossci-datasets.s3.amazonaws.com/mnist"
_ARCHIVES = {
    f"{_SOURCE}/train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    f"{_SOURCE}/train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    f"{_SOURCE}/t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    f"{_SOURCE}/t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
_UNSIGNED_BYTE = 8
_FOLDERS = (Path("MNIST/raw"), Path(), Path("MNIST"), Path("mnist"), Path("raw"))
_LARGEST = 2**30  # bytes of a file, unpacked


def read(data_dir: Path, allowed: bool) -> Parts:
    """Read MNIST; download it where it is not in `data_dir` and that is `allowed`.

    Files of the published size must be the published ones. A smaller set in MNIST's format is read,
    too, and the note says so. Raises DataError.
    """
    files = find_files(data_dir)
    if files is None:
        folder = data_dir / _FOLDERS[0]
        names = ", ".join(url.rpartition("/")[2] for url in _ARCHIVES)
        download(
            _ARCHIVES,
            folder,
            missing=f"MNIST is not in {data_dir}",
            instead=f"put {names} from {_SOURCE} into {folder}",
            allowed=allowed,
        )
        files = find_files(data_dir)
    if files is None:
        raise DataError(f"MNIST was downloaded to {data_dir}, but is not there.")
    (train_x, train_y), (test_x, test_y) = _read_files(files)
    _, height, width = train_x.shape
    preparation = Preparation(1, height, width, fit="mnist")
    published = len(train_y) == 60_000 and len(test_y) == 10_000
    note = f"{files['train-images'].parent} holds a part of MNIST, or a set of its format."
    return Parts(
        CLASSES,
        (train_x[:, None], train_y),
        (test_x[:, None], test_y),
        preparation,
        "" if published else note,
    )


def find_files(data_dir: Path) -> dict[str, Path] | None:
    """The four files in `data_dir` or in a usual folder below it; None where one is missing."""
    for folder in _FOLDERS:
        found = {name: _find(data_dir / folder, name, n) for name, n in FILES.items()}
        there = {name: path for name, path in found.items() if path}
        if len(there) == len(FILES):
            return there
    return None


def _find(folder: Path, name: str, dimensions: int) -> Path | None:
    for stem in (f"{name}-idx{dimensions}-ubyte", f"{name}.idx{dimensions}-ubyte"):
        # Kaggle's archive unpacks to one folder for each file.
        for path in (folder / stem, folder / stem / stem, folder / f"{stem}.gz"):
            if path.is_file():
                return path
    return None


def _read_files(files: dict[str, Path]) -> tuple[Part, Part]:
    """Images [N, H, W] and labels [N] of the training and the test part. Raises DataError."""
    train_x, train_y, test_x, test_y = (_read_idx(files[name], name) for name in FILES)
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


def _read_idx(path: Path, name: str) -> np.ndarray:
    data, dimensions = _unpacked(path), FILES[name]
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
    size, digest = PUBLISHED[name]
    # The published digest is MD5, which finds damage.
    if len(data) == size and hashlib.md5(data, usedforsecurity=False).hexdigest() != digest:
        raise DataError(
            f"{path} is not the published file of MNIST: it is damaged, or of another data set; "
            "fetch it again."
        )
    return (
        np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()
    )  # a writable one, as PyTorch wants


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(data) > _LARGEST:
        raise DataError(f"{path} is larger than any file of MNIST.")
    return data
