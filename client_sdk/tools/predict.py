"""Classifies pictures with the file of a global model, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps

from client_sdk.data.dataset import normalise
from client_sdk.data.folder import pictures_in
from client_sdk.data.pictures import large_pictures_allowed, open_picture, read_pixels
from client_sdk.errors import DataError
from client_sdk.task.model_file import Description, load_bytes, read_file
from client_sdk.task.models import TwoLayerCNN, build


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
    about: Description

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Read a model file, which may be a stranger's. Raises DataError."""
        return cls.parse(read_file(path), str(path))

    @classmethod
    def parse(cls, data: bytes, whose: str) -> Classifier:
        """Read a model file's bytes; `whose` names them in messages. Raises DataError."""
        about = Description.read(data, whose)
        model = build(about.spec)
        load_bytes(model, data)
        return cls(model.eval(), about)

    @torch.no_grad()
    def predict(self, image: Image.Image, top: int = 3) -> list[tuple[str, float]]:
        """The `top` classes of one picture, best first. Raises DataError."""
        shares = self.model(self.prepare(image)).softmax(1)[0]
        best = shares.topk(min(top, len(self.about.classes)))
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return [(self.about.classes[index], share) for share, index in pairs]

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """A picture of any size as the model's input, [1, C, H, W]. Raises DataError."""
        pixels = read_pixels(ImageOps.exif_transpose(image), self.about.preparation)
        images = torch.from_numpy(pixels.copy()).permute(2, 0, 1).unsqueeze(0)
        return normalise(images, self.about.mean, self.about.std)


def predict(images: Sequence[Path], model: Path, top: int = 3) -> list[Prediction]:
    """Classify pictures with a model file; of a folder, all pictures in it, by name.

    Raises DataError, which names the file at fault.
    """
    classifier = Classifier.load(model)
    found = []
    with large_pictures_allowed():
        for path in pictures_in(images):
            image = open_picture(path)
            try:
                found.append(Prediction(path, classifier.predict(image, top)))
            except DataError as error:
                raise DataError(f"{path}: {error}") from error
    return found
