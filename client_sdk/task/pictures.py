"""The task of the classic run: a two-layer CNN that classifies pictures.

It trains by machine code where this machine can compile it (`compiled`), else by PyTorch. Machine
code knows no corrections of a gradient, so PyTorch trains where an experiment asks for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from client_sdk.data.data import Arrays
from client_sdk.data.dataset import Dataset, normalise
from client_sdk.errors import BadSettings
from client_sdk.task.compiled.native import Kernel, Unavailable, compile_kernel
from client_sdk.task.model_file import Description
from client_sdk.task.models import TwoLayerCNN, build, spec_for
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import ALL_CORRECTIONS, Party, Result, Task, Weights
from client_sdk.task.tensors import put_weights, weights_of
from client_sdk.task.together import Client, train_together
from client_sdk.task.train import Loop, batches, evaluate, pick_device, sgd, train_fused
from serverless_fl.aggregation.fednova import effective_steps


class PictureTask(Task):
    """Classifies pictures: x uint8, or float32 in [0, 1], [N, C, H, W]; y int64 [N].

    `about` describes the network, the classes and the scaling of pixels. `kernel` chooses the loop:
    "native" is machine code on the CPU, also where there is a GPU; "torch" is PyTorch, on the GPU
    where there is one; "auto" is native where this machine can compile it and has no GPU.
    """

    takes = ALL_CORRECTIONS

    def __init__(self, about: Description, kernel: str = "auto") -> None:
        self.about, self.name = about, about.spec.name
        self._wanted = kernel
        self._compiled: Kernel | None = None

    def terms(self) -> Mapping[str, str]:
        """The classes, the network and the scaling; `description` has them for machines."""
        about = self.about.metadata()
        return {"classes": ", ".join(self.about.classes)} | {
            subject: about[subject] for subject in ("model", "mean", "std", "ranges")
        }

    def description(self) -> dict[str, str]:
        """The network, the classes, and how pictures become its input."""
        return self.about.metadata()

    def prepare(self) -> str:
        """Compile the loop, or load it.

        Raises BadSettings where `kernel` is "native" and this machine has no such loop.
        """
        device = pick_device().type
        if self._wanted == "torch" or (self._wanted == "auto" and device != "cpu"):
            return f"PyTorch on {device}"
        try:
            self._compiled = compile_kernel(self.about.spec)
        except Unavailable as reason:
            if self._wanted == "native":
                raise BadSettings(f"--kernel native cannot be had here: {reason}.") from reason
            return f"PyTorch on {device} (no machine code: {reason})"
        return f"machine code by {self._compiled.compiler} on cpu"

    def notes(self, training: TrainSettings) -> list[str]:
        """Why PyTorch trains with these settings, although the loop is compiled."""
        if self._compiled is None or not training.corrections:
            return []
        return [f"Machine code knows no {_first(training)}, so PyTorch trains, which takes longer."]

    def initial(self, seed: int) -> Weights:
        """The network's initial weights."""
        return weights_of(build(self.about.spec, seed))

    def train(self, weights: Weights, data: Arrays, training: TrainSettings, seed: int) -> Result:
        """Train by plain SGD, or DP-SGD; the metric is the last epoch's mean loss.

        Raises BadSettings where `kernel` is "native" and a gradient must be corrected.
        """
        loop = self._loop(training)
        device = self._device()
        model = self._network(weights).to(device)
        x, y = self._scaled(data.x).to(device), data.y.to(device)
        if training.example_noise is not None:
            return _train_privately(model, x, y, training)
        loss = loop(model, x, y, training, seed)
        steps = training.epochs * math.ceil(len(y) / training.batch_size)
        reached = effective_steps(steps, training.momentum)
        return Result(weights_of(model), len(y), {"train_loss": loss}, reached)

    def require_together(self, data: Arrays) -> None:
        """Every network of this SDK can be trained with a client dimension."""

    def train_together(self, parties: Sequence[Party], at_once: int) -> list[Result]:
        """Train each party as `train` does, with a client dimension."""
        device = pick_device()
        clients = [
            Client(
                party.weights,
                (self._scaled(party.data.x).to(device), party.data.y.to(device)),
                party.training,
                party.seed,
            )
            for party in parties
        ]
        model = build(self.about.spec).to(device)
        return train_together(model, _each_loss, sgd, clients, at_once)

    def evaluate(self, weights: Weights, data: Arrays) -> dict[str, float]:
        """Cross-entropy as `loss`, and `accuracy`."""
        device = self._device()
        model = self._network(weights).to(device)
        return evaluate(model, data.x, data.y, prepare=lambda x: self._scaled(x).to(device))

    @torch.no_grad()
    def answers(self, weights: Weights, data: Arrays) -> np.ndarray:
        """The class of each picture as a number, int64 [N]."""
        model = self._network(weights).eval()
        found = [model(self._scaled(x)).argmax(1) for x, _ in batches(data.x, data.y)]
        return torch.cat(found).numpy()

    def _loop(self, training: TrainSettings) -> Loop:
        if self._compiled is None:
            return train_fused
        if not training.corrections:
            return self._compiled.train
        if self._wanted == "native":
            raise BadSettings(
                f"Machine code knows no {_first(training)}: leave --kernel native out, and PyTorch "
                "trains."
            )
        return train_fused

    def _network(self, weights: Weights) -> TwoLayerCNN:
        model = build(self.about.spec)
        put_weights(model, weights)
        return model

    def _scaled(self, images: torch.Tensor) -> torch.Tensor:
        return normalise(images, self.about.mean, self.about.std)

    def _device(self) -> torch.device:
        return torch.device("cpu") if self._compiled else pick_device()


def picture_task(dataset: Dataset, model: str = "auto", kernel: str = "auto") -> PictureTask:
    """The task of a set of pictures; `model` is a name, as in `spec_for`. Raises DataError."""
    spec = spec_for(model, dataset.shape, len(dataset.classes))
    return PictureTask(Description.of(dataset, spec), kernel)


def _train_privately(
    model: TwoLayerCNN, x: torch.Tensor, y: torch.Tensor, training: TrainSettings
) -> Result:
    """DP-SGD; it draws from the operating system's random numbers, not from the seed."""
    from client_sdk.task.private import train_privately  # few trainings need it

    return train_privately(
        *(model, sgd([*model.parameters()], training), training, len(y)),
        forward=lambda network, places: (network(x[places]), y[places]),
        losses=partial(F.cross_entropy, reduction="sum"),
    )


def _each_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def _first(training: TrainSettings) -> str:
    """A correction that the settings ask for, in words."""
    return next(iter(training.corrections.values()))
