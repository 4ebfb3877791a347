"""The compiled loop beside the readable one."""

from __future__ import annotations

import torch

from client_sdk.task import models
from client_sdk.task.settings import TrainSettings
from client_sdk.task.train import train


def examples(spec, count, seed=1):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(count, spec.in_channels, spec.height, spec.width, generator=random)
    return x, torch.randint(spec.classes, (count,), generator=random)


def distance(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a.double() - b.double()).detach().abs().max()) for a, b in pairs)


def apart(kernel, batch_size: int, momentum: float, seed: int) -> tuple[float, float, float]:
    """After an epoch: the largest difference of the weights, of the loss, and what was learned.

    Ten steps at most: where two sums are nearly equal, rounding decides which one a pooling takes,
    and networks that take different ones go apart, in PyTorch too.
    """
    x, y = examples(kernel.spec, min(10 * batch_size, 123))
    settings = TrainSettings(1, batch_size, 0.02, momentum)
    ours, theirs = models.build(kernel.spec, 0), models.build(kernel.spec, 0)
    loss = kernel.train(ours, x, y, settings, seed)
    off = abs(loss - train(theirs, x, y, settings, seed))
    return distance(ours, theirs), off, distance(ours, models.build(kernel.spec, 0))
