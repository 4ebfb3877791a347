"""The local training loop: plain SGD on a client's own examples.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
arXiv:1602.05629, algorithm 1, ClientUpdate. See it at work with

    python -m client_sdk --dataset digits --clients 4 --clients-per-round 4 --rounds 3
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from client_sdk.data.seeds import SeededRandom
from client_sdk.task.optimisers import without_compiler
from client_sdk.task.settings import TrainSettings
from client_sdk.task.steps import Steps

VALUES_AT_ONCE = 2**23  # of the images in one forward pass: about a gigabyte of memory


# Trains a model in place on images and labels, by settings and a seed; the last epoch's mean loss.
Loop = Callable[[nn.Module, torch.Tensor, torch.Tensor, TrainSettings, int], float]


def pick_device() -> torch.device:
    """A GPU where there is one."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def train(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, settings: TrainSettings, seed: int
) -> float:
    """Train in place on images x [N, C, H, W] and labels y [N]; the last epoch's mean loss.

    The seed shuffles the examples anew for each epoch; the last, smaller batch counts too. This is
    the readable loop. Tests compare the fast ones with it: `train_fused` and the compiled one.
    """
    return _epochs(model, x, y, settings, seed)


def train_fused(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, settings: TrainSettings, seed: int
) -> float:
    """Train as `train` does, with a fused optimiser and, on a CPU, channels last.

    MNIST's network trains in a third less time on a CPU.
    """
    if x.device.type == "cpu":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.to(memory_format=torch.channels_last)
    loss = _epochs(model, x, y, settings, seed, fused=True)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return loss


def _epochs(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    settings: TrainSettings,
    seed: int,
    *,
    fused: bool = False,
) -> float:
    optimiser = sgd([*model.parameters()], settings, fused=fused)
    steps = Steps(model, optimiser, settings)
    draws = SeededRandom(seed)
    model.train()
    at_once = _at_once(x)
    mean_loss = 0.0
    for _ in range(settings.epochs):
        order = torch.from_numpy(draws.permutation(len(y))).to(x.device)
        total = torch.zeros((), device=x.device)
        for batch in order.split(settings.batch_size):
            optimiser.zero_grad(set_to_none=True)
            for piece in batch.split(at_once):  # nearly always one
                loss = F.cross_entropy(model(x[piece]), y[piece]) * (len(piece) / len(batch))
                loss.backward()
                total += loss.detach() * len(batch)
            steps.take()
        mean_loss = total.item() / len(y)
    return mean_loss


def sgd(
    parameters: Sequence[torch.Tensor], settings: TrainSettings, *, fused: bool = False
) -> torch.optim.SGD:
    """The optimiser of the settings."""
    made: torch.optim.SGD = without_compiler(torch.optim.SGD)(
        parameters,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=fused,
    )
    return made


def _at_once(x: torch.Tensor) -> int:
    """How many of the images x [N, ...] one forward pass takes, whatever the batch size."""
    return max(1, VALUES_AT_ONCE // max(1, math.prod(x.shape[1:])))


def batches(
    x: torch.Tensor, y: torch.Tensor, most: int = 1000
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images x [N, ...] and labels y [N] in batches of at most `most` that one pass may take."""
    size = min(most, _at_once(x))
    return zip(x.split(size), y.split(size), strict=True)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    batch_size: int = 1000,
    prepare: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
) -> dict[str, float]:
    """Mean cross-entropy and share of right answers on images x [N, C, H, W] and labels y [N].

    `prepare` makes the model's input of a batch of images.
    """
    model.eval()
    loss, right = 0.0, 0
    for images, labels in batches(x, y, batch_size):
        logits = model(prepare(images))
        truth = labels.to(logits.device)
        loss += F.cross_entropy(logits, truth, reduction="sum").item()
        right += int((logits.argmax(1) == truth).sum())
    return {"loss": loss / len(y), "accuracy": right / len(y)}
