"""Data sets as tensors: mnist, cifar10, digits, a folder of pictures, an .npz file.

Images stay bytes where they are stored so, and are normalised a shard at a time, so that many
clients on one machine share one copy.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import torch

from client_sdk import cifar10, mnist
from client_sdk.errors import DataError
from client_sdk.preparation import Preparation

NAMES = ("mnist", "cifar10", "digits", "auto")
_TEST_SHARE = 0.2  # where a set has no test part of its own
_SEED = 2017  # of that split: the same on every machine, or shards would overlap the test set
_EVEN = 1e-6  # a deviation below this is rounding: a float32 channel that is all alike has some


@dataclass(frozen=True)
class Dataset:
    """A classification set: images [N, C, H, W] (uint8, or float32 in [0, 1]), labels [N] (int64).

    `mean` and `std` are the training images' own, a value a channel, of bytes scaled to [0, 1].
    `preparation` says how other pictures become like these. `note` says in sentences what `auto`
    chose, what was left out and what was scaled.
    """

    name: str
    classes: tuple[str, ...]
    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preparation: Preparation
    note: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.train_x.shape
        return channels, height, width

    @property
    def white(self) -> float:
        """A white pixel's value as the set was stored: 65535 for 16 bits, 1 for bytes (of 255)."""
        return max((max(r.white) for r in self.preparation.ranges.values()), default=1.0)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Float32 images of mean 0 and deviation 1 a channel, of images as they are here."""
        return normalise(images, self.mean, self.std)


def normalise(
    images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    """(x - mean) / std a channel, bytes scaled to [0, 1] first; [N, C, H, W] to float32."""
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    shift = torch.tensor(mean).view(1, -1, 1, 1)
    width = torch.tensor(std).view(1, -1, 1, 1)
    return (images.float() / scale - shift) / width


def load(
    name: str,
    data_dir: Path,
    *,
    download: bool = True,
    size: tuple[int, int] | None = None,
    fit: str | None = None,
    like: Preparation | None = None,
) -> Dataset:
    """Load a set by name, or a user's own by its path. Raises DataError.

    `data_dir` holds mnist and cifar10, and is where they are downloaded to. A user's own pictures
    get the (width, height) of `size` by `fit` (letterbox or crop); with `like` they are prepared as
    it says, so that they can train a model whose file says so.
    """
    path = Path(name)
    own = name not in NAMES
    if not own and (size or fit):
        raise DataError(f"--image-size and --fit are for pictures of your own; {name} has a size.")
    try:
        match name:
            case "auto":
                return _auto(data_dir, download)
            case "mnist":
                return _mnist(data_dir, download)
            case "cifar10":
                return _cifar10(data_dir, download)
            case "digits":
                return _digits()
        if path.suffix.lower() == ".npz" and path.is_file():
            return _npz(path, size, fit, like)
        if path.is_dir():
            return _folder(path, size, fit, like)
    except MemoryError as error:
        raise DataError(
            f"{name} does not fit into the memory here: {error}. A smaller --image-size helps."
        ) from error
    raise DataError(
        f"There is no data set {name!r}: give {', '.join(NAMES)}, a folder with "
        "train/CLASS/*.png, or an .npz file."
    )


def _auto(data_dir: Path, download: bool) -> Dataset:
    how = "found in" if mnist.find_files(data_dir) else "downloaded to"
    try:
        return replace(_mnist(data_dir, download), note=f"Data: MNIST, {how} {data_dir}.")
    except DataError as error:
        note = f"Data: the 8x8 digits that come with scikit-learn. {error}"
    return replace(_digits(), note=note)


def _mnist(data_dir: Path, download: bool) -> Dataset:
    files = mnist.find_files(data_dir)
    if not files:
        _download("MNIST", data_dir, download)
        files = mnist.find_files(data_dir)
    if not files:
        raise DataError(f"MNIST was downloaded to {data_dir}, but is not there.")
    (train_x, train_y), (test_x, test_y) = mnist.read_files(files)
    train, test = _tensors((train_x[:, None], train_y)), _tensors((test_x[:, None], test_y))
    return _dataset("mnist", tuple("0123456789"), *train, *test, fit="mnist")


def _cifar10(data_dir: Path, download: bool) -> Dataset:
    folder = data_dir / cifar10.FOLDER
    if not folder.is_dir():
        _download("CIFAR10", data_dir, download)
    train, test = cifar10.read_files(folder)
    return _dataset("cifar10", cifar10.CLASSES, *_tensors(train), *_tensors(test))


def _download(kind: str, data_dir: Path, download: bool) -> None:
    """Let torchvision fetch a set's files and compare their digests. Raises DataError."""
    from client_sdk._torchvision import import_datasets

    make = getattr(import_datasets(), kind)
    source = make.mirrors[0] if hasattr(make, "mirrors") else make.url
    _require_network(f"{kind} is not in {data_dir}", download, urlsplit(source).hostname or "")
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # torchvision sets none: a download might stand still for ever
    try:
        make(root=data_dir, download=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(f"{kind} cannot be downloaded to {data_dir}: {error}") from error
    finally:
        socket.setdefaulttimeout(patience)


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
    x, y = _tensors((images[:, None], bunch.target.astype(np.int64)))
    train, test = _held_out(y)
    parts = (x[train], y[train], x[test], y[test])
    return _dataset("digits", tuple("0123456789"), *parts, fit="digits")


def _npz(
    path: Path, size: tuple[int, int] | None, fit: str | None, like: Preparation | None
) -> Dataset:
    from client_sdk.arrays import read_arrays

    found = read_arrays(path, size, fit, like)
    test = _tensors(found.test) if found.test else None
    return _own(
        path.stem, found.classes, _tensors(found.train), test, found.preparation, found.note
    )


def _folder(
    path: Path, size: tuple[int, int] | None, fit: str | None, like: Preparation | None
) -> Dataset:
    from client_sdk.folder import read_folder

    found = read_folder(path, size, fit, like)
    name = path.resolve().name
    return _own(name, found.classes, found.train, found.test, found.preparation, found.note)


Part = tuple[torch.Tensor, torch.Tensor]


def _tensors(part: tuple[np.ndarray, np.ndarray]) -> Part:
    images, labels = part
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


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


def _own(
    name: str,
    classes: tuple[str, ...],
    train: Part,
    test: Part | None,
    preparation: Preparation,
    note: str,
) -> Dataset:
    """A user's set; a fifth of each class is kept for the test where it has no test part."""
    for x, y in (train, test or train):
        if len(x) != len(y):
            raise DataError(f"{name}: {len(x)} images, but {len(y)} labels.")
    if test is None:
        kept, held_out = _held_out(train[1])
        test = (train[0][held_out], train[1][held_out])
        train = (train[0][kept], train[1][kept])
    if not len(train[1]) or not len(test[1]):
        raise DataError(f"{name} has too few images to train and to test.")
    first = train[0][:1]
    if len(train[0]) > 1 and torch.equal(train[0], first.expand_as(train[0])):
        flat = bool(first.amin() == first.amax())
        raise DataError(
            f"{name}: {'all pixels of ' if flat else ''}all images to train on are alike, so there "
            "is nothing to learn from them."
        )
    made = _dataset(name, classes, *train, *test)
    return replace(made, preparation=preparation, note=note)


def _dataset(
    name: str,
    classes: tuple[str, ...],
    train_x: torch.Tensor,
    train_y: torch.Tensor,
    test_x: torch.Tensor,
    test_y: torch.Tensor,
    *,
    fit: str = "crop",
) -> Dataset:
    # A channel at a time in float64: sums over fifty million pixels need it, all of them at once
    # would take eight times the set's memory.
    scale = 255.0 if train_x.dtype == torch.uint8 else 1.0
    _, number, height, width = train_x.shape
    channels = [train_x[:, c].double() / scale for c in range(number)]
    mean = tuple(c.mean().item() for c in channels)
    # A channel that is all alike stays so, in place of a division by next to nothing.
    std = tuple(s if (s := c.std(correction=0).item()) > _EVEN else 1.0 for c in channels)
    preparation = Preparation(number, height, width, fit)
    return Dataset(
        name, classes, train_x, train_y, test_x, test_y, mean, std, preparation=preparation
    )
