"""Model files: weights as safetensors, with a description of the model in their metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from client_sdk.data.dataset import Dataset
from client_sdk.data.preparation import DIGIT_FITS, FITS, Preparation, parse_ranges
from client_sdk.errors import DataError
from client_sdk.task import weights_file
from client_sdk.task.models import ModelSpec
from client_sdk.task.tensors import put_weights, weights_of
from serverless_fl.domain.errors import BadWeights
from serverless_fl.weights.header import layout_of

TABLE = "table"  # the key of the metadata with a table's description


@dataclass(frozen=True)
class Description:
    """A model file's metadata, which describe the model fully: nothing else is needed to use it.

    `dataset` is the set's name, `classes` has the names of the classes in the order of the labels,
    and `mean` and `std` are those of pixels in [0, 1], one value a channel. In the file, `model` is
    the spec, and `fit` and `ranges` are the preparation's. All but `dataset` and `fit` are JSON.
    Files of earlier versions lack `fit` and `ranges`, and may have a `white` that `mean` and `std`
    are scaled to.
    """

    spec: ModelSpec
    dataset: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preparation: Preparation

    def metadata(self) -> dict[str, str]:
        """The description as strings, as a safetensors file has them."""
        return {
            "format": "pt",
            "model": self.spec.to_json(),
            "dataset": self.dataset,
            "classes": json.dumps(self.classes),
            "mean": json.dumps(self.mean),
            "std": json.dumps(self.std),
            "fit": self.preparation.fit,
            "ranges": self.preparation.ranges_json(),
        }

    @classmethod
    def of(cls, dataset: Dataset, spec: ModelSpec) -> Description:
        """The description of a model of this data set."""
        return cls(
            spec, dataset.name, dataset.classes, dataset.mean, dataset.std, dataset.preparation
        )

    @classmethod
    def read(cls, data: bytes, whose: str) -> Description:
        """Read a model file's bytes; `whose` names them in messages. Raises DataError."""
        about = read_metadata(data)
        spec = spec_of(data)
        try:
            classes = tuple(str(c) for c in json.loads(about["classes"]))
            white = float(json.loads(about.get("white", "1")))
            mean = tuple(float(v) / white for v in json.loads(about["mean"]))
            std = tuple(float(v) / white for v in json.loads(about["std"]))
        except (KeyError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise DataError(f"{whose} lacks its classes, mean or std.") from error
        if (len(classes), len(mean), len(std)) != (spec.classes, *[spec.in_channels] * 2):
            raise DataError(f"{whose}: its classes, mean or std do not fit its model.")
        if not all(map(math.isfinite, mean)) or not all(0 < s < math.inf for s in std):
            raise DataError(f"{whose}: its mean or std cannot scale a picture.")
        preparation = _preparation(about, spec, whose)
        return cls(spec, about.get("dataset", ""), classes, mean, std, preparation)


def _preparation(about: Mapping[str, str], spec: ModelSpec, whose: str) -> Preparation:
    name = about.get("dataset", "")
    # Earlier versions wrote no `fit`: they framed the digits of the two sets, and cropped others.
    of_digits = name in DIGIT_FITS and spec.in_channels == 1
    fit = about.get("fit", name if of_digits else "crop")
    if fit not in FITS and not (fit in DIGIT_FITS and spec.in_channels == 1):
        raise DataError(f"{whose}: it fits pictures in a way that this version does not know.")
    try:
        ranges = parse_ranges(about.get("ranges", "{}"), spec.in_channels)
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise DataError(f"{whose}: its ranges cannot scale a picture.") from error
    return Preparation(spec.in_channels, spec.height, spec.width, fit, ranges)


def describe(dataset: Dataset, spec: ModelSpec) -> dict[str, str]:
    """The metadata of a model of this data set."""
    return Description.of(dataset, spec).metadata()


def to_bytes(model: nn.Module, metadata: Mapping[str, str] | None = None) -> bytes:
    """Write the weights as a safetensors file. The same weights give the same bytes."""
    return weights_file.write(weights_of(model), metadata)


def load_bytes(model: nn.Module, data: bytes) -> None:
    """Put a safetensors file's weights into a model. Raises DataError where they do not fit."""
    put_weights(model, weights_file.read(data))


def spec_of(data: bytes) -> ModelSpec:
    """The network that a model file describes, which may be a stranger's. Raises DataError."""
    about = read_metadata(data)
    if TABLE in about:
        raise DataError("This is a model of tables, not of pictures: only predict takes it.")
    spec = ModelSpec.from_json(about.get("model", ""))
    # A described network could exceed the memory, but the file is here: nothing is built before.
    if 4 * spec.weights() > len(data):
        raise DataError("The file holds fewer weights than the model that it describes.")
    return spec


def read_metadata(data: bytes) -> dict[str, str]:
    """A safetensors file's metadata. Raises DataError where it has none, or is no such file."""
    unlike = "The file does not describe its model: is it a model of this SDK?"
    try:
        found = layout_of(data).metadata
    except BadWeights as error:
        raise DataError(f"{unlike} {error.message}") from error
    if not found:
        raise DataError(unlike)
    return dict(found)


def is_own_task(about: Mapping[str, str]) -> bool:
    """Whether a model's metadata are of a task that only its author's code can make."""
    return "task" in about and not about.keys() & {"model", TABLE}


def read_file(path: Path) -> bytes:
    """The bytes of a model file. Raises DataError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"The model {path} cannot be read: {error.strerror}.") from error
