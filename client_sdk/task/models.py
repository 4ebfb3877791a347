"""The two-layer CNNs: their shapes, and the networks with initial weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

from client_sdk.data.seeds import SeededRandom
from client_sdk.errors import DataError
from client_sdk.task.randomness import torch_seeded

MAX_WEIGHTS = 2**25  # of a network that this SDK makes: 128 MiB, for pictures of about 260x260
MAX_WORKING = 2**28  # numbers, a gigabyte for one image: a stranger's file must not fill the memory


@dataclass(frozen=True)
class ModelSpec:
    """The numbers that build a network: image shape, classes, widths, kernel, padding."""

    name: str
    in_channels: int
    height: int
    width: int
    classes: int
    conv: tuple[int, int]
    kernel: int
    padding: int
    hidden: int

    def to_json(self) -> str:
        """The fields as JSON, for a model file's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Read a model file's own description, which may be a stranger's. Raises DataError."""
        try:
            fields = json.loads(text)
            spec = cls(**{**fields, "conv": tuple(fields["conv"])})
            spec.check()
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(f"The file does not describe a model of this SDK: {error}") from error
        return spec

    def check(self) -> None:
        """Raises ValueError, TypeError or DataError for a field of a wrong type or out of range."""
        others = {k: v for k, v in asdict(self).items() if k not in ("name", "conv", "padding")}
        sizes = [*self.conv, *others.values(), self.padding + 1]
        if len(self.conv) != 2 or not all(type(s) is int and 1 <= s <= 8192 for s in sizes):
            raise ValueError("sizes out of range")
        if type(self.name) is not str or type(self.padding) is not int:
            raise ValueError("a field of the wrong type")
        if self.working_size() > MAX_WORKING:
            raise ValueError("it would need too much memory")

    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the network's parameters, in their order. Raises DataError."""
        first, second = self.conv
        kernel = (self.kernel, self.kernel)
        return [
            (first, self.in_channels, *kernel),
            (first,),
            (second, first, *kernel),
            (second,),
            (self.hidden, self.flat_size()),
            (self.hidden,),
            (self.classes, self.hidden),
            (self.classes,),
        ]

    def weights(self) -> int:
        """How many weights the network has. Raises DataError."""
        return sum(math.prod(shape) for shape in self.shapes())

    def working_size(self) -> int:
        """How many numbers the larger convolution makes of one image. Raises DataError."""
        self.flat_size()
        grown = 2 * self.padding - self.kernel + 1
        height, width = self.height + grown, self.width + grown
        first = self.conv[0] * height * width
        return max(first, self.conv[1] * (height // 2 + grown) * (width // 2 + grown))

    def flat_size(self) -> int:
        """How many numbers the dense layers take from the convolutions. Raises DataError."""
        height, width = self.height, self.width
        for _ in self.conv:
            height = (height + 2 * self.padding - self.kernel + 1) // 2
            width = (width + 2 * self.padding - self.kernel + 1) // 2
        if height < 1 or width < 1:
            raise DataError(f"Images of {self.height}x{self.width} are too small for {self.name}.")
        return self.conv[1] * height * width


class TwoLayerCNN(nn.Module):
    """Convolution, pool, convolution, pool, dense, dense: [N, C, H, W] to logits [N, classes].

    It has no dropout and no batch normalisation, so that a client's result is a function of its
    data and seed.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(spec.in_channels, spec.conv[0], spec.kernel, padding=spec.padding)
        self.conv2 = nn.Conv2d(spec.conv[0], spec.conv[1], spec.kernel, padding=spec.padding)
        self.fc1 = nn.Linear(spec.flat_size(), spec.hidden)
        self.fc2 = nn.Linear(spec.hidden, spec.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        logits: torch.Tensor = self.fc2(x)
        return logits


# Name: convolution widths, kernel, padding, hidden units. mnist-cnn has 21,840 weights.
PRESETS: Mapping[str, tuple[tuple[int, int], int, int, int]] = {
    "mnist-cnn": ((10, 20), 5, 0, 50),
    "cifar10-cnn": ((32, 64), 3, 0, 128),
    "digits-cnn": ((16, 32), 3, 1, 64),
}


def spec_for(name: str, shape: tuple[int, int, int], classes: int) -> ModelSpec:
    """A preset for images of this shape (C, H, W); `auto` picks by size. Raises DataError."""
    channels, height, width = shape
    if name == "auto":
        if min(height, width) < 16:
            name = "digits-cnn"
        else:
            name = "mnist-cnn" if channels == 1 and max(height, width) <= 32 else "cifar10-cnn"
    if name not in PRESETS:
        raise DataError(f"There is no model {name!r}: give {', '.join(PRESETS)} or auto.")
    conv, kernel, padding, hidden = PRESETS[name]
    spec = ModelSpec(name, channels, height, width, classes, conv, kernel, padding, hidden)
    if spec.weights() > MAX_WEIGHTS:
        raise DataError(
            f"Pictures of {width}x{height} make a network of {spec.weights():,} weights, more than "
            f"{MAX_WEIGHTS:,}: give a smaller --image-size, 64 say."
        )
    return spec


def build(spec: ModelSpec, seed: int | None = None) -> TwoLayerCNN:
    """A network with initial weights that are a function of the seed.

    They are uniform within one over the root of a unit's inputs, as PyTorch's are by default.
    """
    with torch_seeded(0):  # the caller's random state stays as it is
        network = TwoLayerCNN(spec)
    if seed is not None:
        draws = SeededRandom(seed)
        for layer in network.children():
            inputs = next(layer.parameters())[0].numel()
            for parameter in layer.parameters():  # weights, then biases
                values = draws.uniform(tuple(parameter.shape), inputs**-0.5)
                parameter.data = torch.from_numpy(values)
    return network
