"""Classify pictures that no client ever saw, with a global model's file alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from client_sdk.datasets import normalise
from client_sdk.errors import DataError
from client_sdk.models import ModelSpec, TwoLayerCNN, build, load_bytes, read_metadata, spec_of

# The share of the frame that a digit's longer side fills, and whether its centre of mass, or its
# box, stands in the middle. MNIST: 20 of 28 pixels, by mass (http://yann.lecun.com/exdb/mnist/).
_FRAMING = {"mnist": (20 / 28, True), "digits": (1.0, False)}


@dataclass(frozen=True)
class Prediction:
    """A picture's most probable classes, best first, with their probabilities."""

    path: Path
    top: list[tuple[str, float]]

    @property
    def label(self) -> str:
        return self.top[0][0]

    @property
    def probability(self) -> float:
        return self.top[0][1]


@dataclass(frozen=True)
class Classifier:
    """A global model as its file describes it."""

    model: TwoLayerCNN
    spec: ModelSpec
    dataset: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: float = 1.0

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Read a model file, which may be a stranger's. Raises DataError."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"The model {path} cannot be read: {error.strerror}.") from error
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: bytes, whose: str) -> Classifier:
        """Read a model file's bytes; `whose` names them in messages. Raises DataError."""
        about = read_metadata(data)
        spec = spec_of(data)
        try:
            classes = tuple(str(c) for c in json.loads(about["classes"]))
            mean = tuple(float(v) for v in json.loads(about["mean"]))
            std = tuple(float(v) for v in json.loads(about["std"]))
            white = float(json.loads(about.get("white", "1")))
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{whose} lacks its classes, mean or std.") from error
        if (len(classes), len(mean), len(std)) != (spec.classes, *[spec.in_channels] * 2):
            raise DataError(f"{whose}: its classes, mean or std do not fit its model.")
        if not all(map(math.isfinite, (*mean, white))) or not all(0 < s < math.inf for s in std):
            raise DataError(f"{whose}: its mean or std cannot scale a picture.")
        model = build(spec)
        load_bytes(model, data)
        return cls(model.eval(), spec, about.get("dataset", ""), classes, mean, std, white)

    @torch.no_grad()
    def predict(self, image: Image.Image, top: int = 3) -> list[tuple[str, float]]:
        """The `top` classes of one picture, best first."""
        shares = self.model(self.prepare(image)).softmax(1)[0]
        best = shares.topk(min(top, len(self.classes)))
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return [(self.classes[index], share) for share, index in pairs]

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """A picture of any size and polarity as the model's input, [1, C, H, W]."""
        image = _flatten(image)
        # A user's colour set may be called digits, too.
        if self.dataset in _FRAMING and self.spec.in_channels == 1:
            share, by_mass = _FRAMING[self.dataset]
            pixels = _frame(_ink(image), self.spec.height, self.spec.width, share, by_mass)
        else:
            mode = "L" if self.spec.in_channels == 1 else "RGB"
            size = (self.spec.width, self.spec.height)
            fitted = ImageOps.fit(image.convert(mode), size, Image.Resampling.LANCZOS)
            pixels = np.asarray(fitted)
        images = torch.from_numpy(pixels.reshape(self.spec.height, self.spec.width, -1).copy())
        shares = images.permute(2, 0, 1).unsqueeze(0) / 255
        return normalise(shares * self.white, self.mean, self.std)


def predict(images: Sequence[Path], model: Path, top: int = 3) -> list[Prediction]:
    """Classify pictures by a model file. Raises DataError, naming the file at fault."""
    classifier = Classifier.load(model)
    return [Prediction(path, classifier.predict(_open(path), top)) for path in images]


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error


def _flatten(image: Image.Image) -> Image.Image:
    """Transparency becomes white paper."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image).convert("RGB")
    if image.mode in ("I", "I;16", "F"):  # sixteen bits and more: stretch to eight
        values = np.asarray(image, np.float64)
        spread = values.max() - values.min() or 1.0
        return Image.fromarray(((values - values.min()) * (255 / spread)).astype(np.uint8))
    return image


def _ink(image: Image.Image) -> np.ndarray:
    """Greyscale [H, W] float with ink at 255 on paper at 0, whichever was the darker one.

    The border tells the paper: a digit seldom covers it.
    """
    grey = np.asarray(image.convert("L"), np.float64)
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
