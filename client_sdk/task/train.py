"""The local training loop: plain SGD on a client's own examples.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
arXiv:1602.05629, algorithm 1, ClientUpdate. See it at work with

    python -m client_sdk --dataset digits --clients 4 --clients-per-round 4 --rounds 3
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from client_sdk.data.seeds import SeededRandom
from client_sdk.errors import DataError
from client_sdk.task.model_file import load_bytes, to_bytes
from client_sdk.task.models import ModelSpec, build
from serverless_fl.wire.bounds import MAX_BATCH, MAX_DECAY, MAX_EPOCHS, MAX_RATE

VALUES_AT_ONCE = 2**23  # of the images in one forward pass: about a gigabyte of memory


@dataclass(frozen=True)
class TrainSettings:
    """How to train: passes over the data, examples a step, step size, momentum, and the share of
    every weight that a step's gradient takes back (L2 regularisation).

    They come from a coordinator, so this machine checks them, too. Raises DataError.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raises DataError for a setting out of range."""
        for name, most in (("epochs", MAX_EPOCHS), ("batch_size", MAX_BATCH)):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise DataError(f"{name} must be a whole number from 1 to {most}, not {value!r}.")
        if not _is_number(self.learning_rate) or not 0 < self.learning_rate <= MAX_RATE:
            raise DataError(
                f"learning_rate must be above 0 and at most {MAX_RATE:g}, "
                f"not {self.learning_rate!r}."
            )
        if not _is_number(self.momentum) or not 0 <= self.momentum < 1:
            raise DataError(f"momentum must be from 0 to below 1, not {self.momentum!r}.")
        if not _is_number(self.weight_decay) or not 0 <= self.weight_decay <= MAX_DECAY:
            raise DataError(
                f"weight_decay must be from 0 to {MAX_DECAY:g}, not {self.weight_decay!r}."
            )


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


# Trains a model in place on images and labels, by settings and a seed; the last epoch's mean loss.
Loop = Callable[[nn.Module, torch.Tensor, torch.Tensor, TrainSettings, int], float]


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy and share of right answers over `examples`."""

    loss: float
    accuracy: float
    examples: int


@dataclass(frozen=True)
class LocalUpdate:
    """What a client uploads: weights (safetensors), examples trained on, metrics."""

    weights: bytes
    num_examples: int
    metrics: dict[str, float]


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
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=fused,
    )
    draws = SeededRandom(seed)
    model.train()
    at_once = _at_once(x)
    mean_loss = 0.0
    for _ in range(settings.epochs):
        order = draws.permutation(len(y)).to(x.device)
        total = torch.zeros((), device=x.device)
        for batch in order.split(settings.batch_size):
            optimiser.zero_grad(set_to_none=True)
            for piece in batch.split(at_once):  # nearly always one
                loss = F.cross_entropy(model(x[piece]), y[piece]) * (len(piece) / len(batch))
                loss.backward()
                total += loss.detach() * len(batch)
            optimiser.step()
        mean_loss = total.item() / len(y)
    return mean_loss


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
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, batch_size: int = 1000
) -> Evaluation:
    """Loss and accuracy on images x [N, C, H, W] and labels y [N]; no examples give zeros."""
    if not len(y):
        return Evaluation(0.0, 0.0, 0)
    model.eval()
    loss, right = 0.0, 0
    for images, labels in batches(x, y, batch_size):
        logits = model(images)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        right += int((logits.argmax(1) == labels).sum())
    return Evaluation(loss / len(y), right / len(y), len(y))


def local_update(
    weights: bytes,
    spec: ModelSpec,
    x: torch.Tensor,
    y: torch.Tensor,
    holdout_x: torch.Tensor,
    holdout_y: torch.Tensor,
    settings: TrainSettings,
    seed: int,
    loop: Loop | None = None,
) -> LocalUpdate:
    """Train the global weights on (x, y), and measure them on held-out examples before and after.

    Images are normalised float32. A given `loop` runs on the CPU, also where there is a GPU;
    without one `train_fused` runs on the GPU, or on the CPU where there is none. Raises DataError
    where the weights are not the spec's.
    """
    started = time.perf_counter()
    device = torch.device("cpu") if loop else pick_device()
    loop = loop or train_fused
    model = build(spec)
    load_bytes(model, weights)
    model.to(device)
    x, y, holdout_x, holdout_y = (t.to(device) for t in (x, y, holdout_x, holdout_y))
    before = evaluate(model, holdout_x, holdout_y)
    train_loss = loop(model, x, y, settings, seed)
    after = evaluate(model, holdout_x, holdout_y)
    metrics = {"train_loss": train_loss, "train_seconds": time.perf_counter() - started}
    if before.examples:
        metrics |= {
            "loss_before": before.loss,
            "accuracy_before": before.accuracy,
            "loss_after": after.loss,
            "accuracy_after": after.accuracy,
        }
    return LocalUpdate(to_bytes(model), len(y), metrics)
