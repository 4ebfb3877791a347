"""Data sets as tensors: mnist, cifar10, digits, a folder of images, an .npz file.

Images stay as they are stored (bytes, mostly) and are normalised a shard at a time, so that many
clients on one machine share one copy.
"""

from __future__ import annotations

import socket
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import torch

from client_sdk.errors import DataError

NAMES = ("mnist", "cifar10", "digits", "auto")
MNIST_FILES = ("train-images", "train-labels", "t10k-images", "t10k-labels")
MAX_CLASSES = 8192  # labels count from 0: a stray large one is a mistake, not a class
_TEST_SHARE = 0.2  # where a set has no test part of its own
_SEED = 2017  # of that split: the same on every machine, or shards would overlap the test set


@dataclass(frozen=True)
class Dataset:
    """A classification set: images [N, C, H, W] (uint8 or float32), labels [N] (int64).

    `mean` and `std` are the training images' own, a value a channel, of bytes scaled to [0, 1] or
    of floats as they are; `white` is a white pixel's value on that scale. `note` says in a
    sentence what `auto` chose, and why.
    """

    name: str
    classes: tuple[str, ...]
    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    note: str = ""
    white: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.train_x.shape
        return channels, height, width

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Float32 images of mean 0 and deviation 1 a channel, of images as they are stored."""
        return normalise(images, self.mean, self.std)


def normalise(
    images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    """(x - mean) / std a channel, bytes scaled to [0, 1] first; [N, C, H, W] to float32."""
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    shift = torch.tensor(mean).view(1, -1, 1, 1)
    width = torch.tensor(std).view(1, -1, 1, 1)
    return (images.float() / scale - shift) / width


def load(name: str, data_dir: Path, *, download: bool = True) -> Dataset:
    """Load a set by name, or a user's own by its path. Raises DataError.

    `data_dir` holds mnist and cifar10 as torchvision lays them out, and is where they are
    downloaded to.
    """
    match name:
        case "auto":
            return _auto(data_dir, download)
        case "mnist":
            return _mnist(data_dir, download)
        case "cifar10":
            return _cifar10(data_dir, download)
        case "digits":
            return _digits()
    path = Path(name)
    if path.suffix == ".npz" and path.is_file():
        return _npz(path)
    if path.is_dir():
        from client_sdk.folder import read_folder  # needs Pillow; the others do not

        return _own(path.resolve().name, *read_folder(path))
    raise DataError(
        f"There is no data set {name!r}: give {', '.join(NAMES)}, a folder with "
        "train/CLASS/*.png, or an .npz file."
    )


def _auto(data_dir: Path, download: bool) -> Dataset:
    how = "found in" if _has_mnist(data_dir) else "downloaded to"
    try:
        return replace(_mnist(data_dir, download), note=f"Data: MNIST, {how} {data_dir}.")
    except DataError as error:
        note = f"Data: the 8x8 digits that come with scikit-learn. {error}"
    return replace(_digits(), note=note)


def _has_mnist(data_dir: Path) -> bool:
    raw = data_dir / "MNIST" / "raw"
    return all(any(raw.glob(f"{stem}-idx?-ubyte")) for stem in MNIST_FILES)


def _mnist(data_dir: Path, download: bool) -> Dataset:
    train, test = _torchvision_sets("MNIST", data_dir, _has_mnist(data_dir), download)
    (train_x, train_y), (test_x, test_y) = (
        (part.data.unsqueeze(1), part.targets) for part in (train, test)
    )
    return _dataset("mnist", tuple("0123456789"), train_x, train_y, test_x, test_y)


def _cifar10(data_dir: Path, download: bool) -> Dataset:
    # torchvision compares each file with its MD5 before it reads it, so only the original, never
    # a stranger's file, is unpickled.
    there = (data_dir / "cifar-10-batches-py").is_dir()
    train, test = _torchvision_sets("CIFAR10", data_dir, there, download)
    images = [torch.from_numpy(p.data).permute(0, 3, 1, 2).contiguous() for p in (train, test)]
    labels = [torch.tensor(p.targets) for p in (train, test)]
    return _dataset("cifar10", tuple(train.classes), images[0], labels[0], images[1], labels[1])


def _torchvision_sets(kind: str, data_dir: Path, there: bool, download: bool) -> tuple[Any, Any]:
    """The (train, test) sets of a torchvision class, downloaded where they must be and may."""
    from client_sdk._torchvision import import_datasets

    make = getattr(import_datasets(), kind)
    if not there:
        source = make.mirrors[0] if hasattr(make, "mirrors") else make.url
        _require_network(f"{kind} is not in {data_dir}", download, urlsplit(source).hostname or "")
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # torchvision sets none: a download might stand still for ever
    try:
        train, test = (make(root=data_dir, train=t, download=not there) for t in (True, False))
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(f"{kind} cannot be read from {data_dir}: {error}") from error
    finally:
        socket.setdefaulttimeout(patience)
    return train, test


def _require_network(missing: str, download: bool, host: str) -> None:
    """Find out in seconds whether there is a network: a download would wait much longer."""
    if not download:
        raise DataError(f"{missing}, and downloads are off.")
    if getproxies():  # a proxy's answers come over HTTP alone
        return
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError as error:
        raise DataError(f"{missing}, and there is no internet here.") from error


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    x = torch.from_numpy(images).unsqueeze(1)
    y = torch.from_numpy(bunch.target.astype(np.int64))
    train, test = _held_out(y)
    return _dataset("digits", tuple("0123456789"), x[train], y[train], x[test], y[test])


def _held_out(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices (train, test): a fifth of each class, drawn alike on every machine."""
    generator = torch.Generator().manual_seed(_SEED)
    train, test = [], []
    for label in labels.unique(sorted=True):
        mine = (labels == label).nonzero().flatten()
        mine = mine[torch.randperm(len(mine), generator=generator)]
        cut = round(len(mine) * _TEST_SHARE)
        test.append(mine[:cut])
        train.append(mine[cut:])
    return torch.cat(train).sort().values, torch.cat(test).sort().values


def _npz(path: Path) -> Dataset:
    """Arrays x_train, y_train and perhaps x_test, y_test, classes. Pickled arrays are refused."""
    try:
        # Opened here: numpy leaves its own file open where the archive is broken.
        with path.open("rb") as file, zipfile.ZipFile(file):
            file.seek(0)
            with np.load(file, allow_pickle=False) as found:
                arrays = {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read as an .npz file of plain arrays: {error}"
        ) from error
    for name in ("x_train", "y_train"):
        if name not in arrays:
            raise DataError(f"{path} has no array {name!r}; it has {sorted(arrays)}.")
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise DataError(f"{path} has only one of 'x_test' and 'y_test'; give both or neither.")
    parts = [
        (_images(path, arrays[f"x_{part}"]), _labels(path, arrays[f"y_{part}"]))
        for part in ("train", "test")
        if f"x_{part}" in arrays
    ]
    most = max(int(y.max()) for _, y in parts)
    classes = tuple(str(c) for c in np.atleast_1d(arrays.get("classes", np.arange(most + 1))))
    if len(classes) <= most:
        raise DataError(f"{path} names {len(classes)} classes, but has the label {most}.")
    return _own(path.stem, classes, *parts)


def _images(path: Path, x: np.ndarray) -> torch.Tensor:
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[-1] in (1, 3) and x.shape[1] not in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    if x.ndim != 4 or 0 in x.shape:
        raise DataError(
            f"{path}: images must be [N, H, W], [N, H, W, C] or [N, C, H, W], not {list(x.shape)}."
        )
    if x.dtype != np.uint8:
        if x.dtype.kind not in "iuf":
            raise DataError(f"{path}: images must be finite numbers, not {x.dtype}.")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise DataError(f"{path}: images must be finite numbers.")
    return torch.from_numpy(np.ascontiguousarray(x))


def _labels(path: Path, y: np.ndarray) -> torch.Tensor:
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer) or (len(y) and y.min() < 0):
        raise DataError(f"{path}: labels must be one non-negative whole number an image.")
    if len(y) and y.max() >= MAX_CLASSES:
        raise DataError(f"{path}: labels must be below {MAX_CLASSES}, not {y.max()}.")
    return torch.from_numpy(y.astype(np.int64))


def _own(
    name: str,
    classes: tuple[str, ...],
    train: tuple[torch.Tensor, torch.Tensor],
    test: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> Dataset:
    """A user's set; a fifth of each class is kept for the test where it has no test part."""
    for x, y in (train, test or train):
        if len(x) != len(y):
            raise DataError(f"{name}: {len(x)} images, but {len(y)} labels.")
        if x.shape[1:] != train[0].shape[1:] or x.dtype != train[0].dtype:
            raise DataError(f"{name}: test images are not like the training images.")
    if test is None:
        kept, held_out = _held_out(train[1])
        test = (train[0][held_out], train[1][held_out])
        train = (train[0][kept], train[1][kept])
    if not len(train[1]) or not len(test[1]):
        raise DataError(f"{name} has too few images to train and to test.")
    return _dataset(name, classes, *train, *test)


def _dataset(
    name: str,
    classes: tuple[str, ...],
    train_x: torch.Tensor,
    train_y: torch.Tensor,
    test_x: torch.Tensor,
    test_y: torch.Tensor,
) -> Dataset:
    # A channel at a time in float64: sums over fifty million pixels need it, all of them at once
    # would take eight times the set's memory.
    scale = 255.0 if train_x.dtype == torch.uint8 else 1.0
    channels = [train_x[:, c].double() / scale for c in range(train_x.shape[1])]
    mean = tuple(c.mean().item() for c in channels)
    std = tuple(c.std(correction=0).item() or 1.0 for c in channels)
    # Floats come as 0 to 1 or as 0 to 255; `predict` must put pictures on the same scale.
    white = 255.0 if train_x.is_floating_point() and train_x.max() > 2 else 1.0
    return Dataset(name, classes, train_x, train_y, test_x, test_y, mean, std, white=white)
