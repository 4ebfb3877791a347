"""Compares another loop with the readable one, on this machine.

Where two sums are nearly equal, rounding decides which of them a pooling takes, or whether a ReLU
passes a value on. From there on two correct loops give different weights. `compare` counts such
ties: they excuse a difference, and nothing else does.
"""

from __future__ import annotations

import torch
from torch import nn

from client_sdk.task.models import ModelSpec, build
from client_sdk.task.settings import TrainSettings
from client_sdk.task.train import Loop, train

TOLERANCE = 1e-5  # of a weight or a loss
SEEDS = 3  # that must agree
EXCUSED = 6  # comparisons with ties that may differ
_EXAMPLES = 21  # two whole batches and a part of one
_NEAR = 1e-6  # of a layer's largest sum: rounding may move a sum by so much
_SETTINGS = TrainSettings(
    epochs=2, batch_size=9, learning_rate=0.01, momentum=0.5, weight_decay=0.1
)


def disagreement(loop: Loop, spec: ModelSpec) -> str:
    """How `loop` differs from the readable one for networks of this shape; empty if it does not.

    Three seeds must give the readable loop's weights and loss. A seed that does not is replaced by
    another where it had a tie; without a tie the loop is wrong.
    """
    agreed = excused = seed = 0
    while agreed < SEEDS:
        apart, ties = compare(loop, spec, seed)
        seed += 1
        if apart <= TOLERANCE:
            agreed += 1
        elif ties and excused < EXCUSED:
            excused += 1
        else:
            return f"it differs from PyTorch by {apart:.1e}"
    return ""


def compare(loop: Loop, spec: ModelSpec, seed: int) -> tuple[float, int]:
    """The largest difference of a weight or of the loss after two epochs, and the number of ties.

    The difference is NaN where a weight or a loss is.
    """
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(_EXAMPLES, spec.in_channels, spec.height, spec.width, generator=random)
    y = torch.randint(spec.classes, (_EXAMPLES,), generator=random)
    ours, theirs = build(spec, seed), build(spec, seed)
    ties = 0

    def count(layer: nn.Module, inputs: object, sums: torch.Tensor) -> None:
        nonlocal ties
        ties += _ties(sums.detach())

    for layer in (theirs.conv1, theirs.conv2, theirs.fc1):
        layer.register_forward_hook(count)
    losses = loop(ours, x, y, _SETTINGS, seed), train(theirs, x, y, _SETTINGS, seed)
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    apart = [(mine - other).detach().abs().max() for mine, other in pairs]
    # torch's max keeps NaN, and Python's may not.
    return float(torch.stack([*apart, torch.tensor(abs(losses[0] - losses[1]))]).max()), ties


def _ties(sums: torch.Tensor) -> int:
    """How many decisions rounding may make: of the pooling and ReLU behind a convolution
    [N, C, H, W], or of the ReLU behind a dense layer [N, units].
    """
    near = _NEAR * float(sums.abs().max())
    if sums.dim() == 2:
        return int((sums.abs() <= near).sum())
    count, channels, height, width = sums.shape
    windows = sums[:, :, : height // 2 * 2, : width // 2 * 2]
    windows = windows.reshape(count, channels, height // 2, 2, width // 2, 2)
    first, second = windows.transpose(3, 4).flatten(4).topk(2).values.unbind(-1)
    doubtful = (first - second <= near) & (first > 0)  # below 0, no gradient passes the ReLU
    return int((doubtful | (first.abs() <= near)).sum())
