"""A data set: the arrays that a reader gives, and the tensors that train and test.

Images that are stored as bytes stay bytes. A shard is normalised when it is used, so that many
clients on one machine share one copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from client_sdk.data.data import Arrays
from client_sdk.data.preparation import Preparation
from client_sdk.errors import DataError

_TEST_SHARE = 0.2  # of each class, where a set has no test part of its own
_SEED = 2017  # of that split: each machine draws the same one, else shards overlap the test set
_ROUNDING = 1e-6  # a smaller deviation may be that of a float32 channel of one value

Part = tuple[np.ndarray, np.ndarray]
"""Images [N, C, H, W] (uint8, or float32 in [0, 1]) and labels [N] (int64)."""

_Tensors = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Parts:
    """What a reader finds in files. `test` is None where the files have no test part.

    `preparation` says how other pictures become like these. `note` says in sentences what the
    reader left out and what it scaled. `sites` says whose each training image is, [N] words; None
    where nothing says so. `test_sites` says the same of the images of the test part.
    """

    classes: tuple[str, ...]
    train: Part
    test: Part | None
    preparation: Preparation
    note: str = ""
    sites: np.ndarray | None = None
    test_sites: np.ndarray | None = None


@dataclass(frozen=True)
class Dataset:
    """A classification set: images [N, C, H, W] (uint8, or float32 in [0, 1]), labels [N] (int64).

    `mean` and `std` are those of the training images, one value a channel; bytes are scaled to
    [0, 1] first. `preparation`, `note`, `sites` and `test_sites` are the reader's (see `Parts`).
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
    sites: np.ndarray | None = None
    test_sites: np.ndarray | None = None

    @property
    def train(self) -> Arrays:
        """The examples to train on, as a task takes them."""
        return Arrays(self.train_x, self.train_y)

    @property
    def test(self) -> Arrays:
        """The examples to test on."""
        return Arrays(self.test_x, self.test_y)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.train_x.shape
        return channels, height, width

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Scale images of this set to mean 0 and deviation 1 a channel, as float32."""
        return normalise(images, self.mean, self.std)


def normalise(
    images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    """(x - mean) / std a channel, bytes scaled to [0, 1] first; [N, C, H, W] to float32."""
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    shift = torch.tensor(mean).view(1, -1, 1, 1)
    width = torch.tensor(std).view(1, -1, 1, 1)
    return (images.float() / scale - shift) / width


def make_dataset(name: str, parts: Parts) -> Dataset:
    """Make tensors of a reader's arrays, and measure the training images. Raises DataError.

    A fifth of each class becomes the test part where the files have none.
    """
    for x, y in (parts.train, parts.test or parts.train):
        if len(x) != len(y):
            raise DataError(f"{name}: {len(x)} images, but {len(y)} labels.")
    train = _tensors(parts.train)
    test = _tensors(parts.test) if parts.test else None
    sites, test_sites = parts.sites, parts.test_sites
    if test is None:
        kept, held_out = _held_out(train[1])
        test = (train[0][held_out], train[1][held_out])
        train = (train[0][kept], train[1][kept])
        if sites is not None:
            sites, test_sites = sites[kept.numpy()], sites[held_out.numpy()]
    if not len(train[1]) or not len(test[1]):
        raise DataError(f"{name} has too few images to train and to test.")
    _check_variety(name, train[0])
    mean, std = _moments(train[0])
    return Dataset(
        *(name, parts.classes, *train, *test, mean, std, parts.preparation, parts.note),
        sites=sites,
        test_sites=test_sites,
    )


def _tensors(part: Part) -> _Tensors:
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


def _check_variety(name: str, images: torch.Tensor) -> None:
    """Raises DataError where all images are the same one."""
    first = images[:1]
    if len(images) > 1 and torch.equal(images, first.expand_as(images)):
        flat = bool(first.amin() == first.amax())
        raise DataError(
            f"{name}: {'all pixels of ' if flat else ''}all images to train on are alike, so there "
            "is nothing to learn from them."
        )


def _moments(images: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, bytes scaled to [0, 1].

    Sums over fifty million pixels need float64. All channels at once would take eight times the
    set's memory, so the channels are measured one after another.
    """
    scale = 255.0 if images.dtype == torch.uint8 else 1.0
    channels = [images[:, c].double() / scale for c in range(images.shape[1])]
    mean = tuple(c.mean().item() for c in channels)
    # A channel of one value stays as it is: a division by next to nothing would blow it up.
    std = tuple(s if (s := c.std(correction=0).item()) > _ROUNDING else 1.0 for c in channels)
    return mean, std
