"""What malicious clients do: one class an attack. They train like the others, and then cheat.

Some cheat with their data, before they train; others with what they send. Pixels are bytes, as
MNIST's are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from client_sdk.data.data import Arrays
from client_sdk.task import weights_file
from client_sdk.task.task import LocalUpdate, Weights

_MOST = 1e30  # a boosted weight stays finite, else the coordinator refuses it

TRIGGER = 4  # pixels on a side of the backdoor's white square
TARGET = 0  # the class that the backdoor makes of everything


@dataclass(frozen=True)
class Attack:
    """Nothing: the base of the others."""

    def data(self, train: Arrays) -> Arrays:
        """The data set as malicious clients have it."""
        return train

    def send(self, base: Weights, learned: Weights, draws: np.random.Generator) -> Weights:
        """The weights that a malicious client sends instead of what it learned."""
        return learned

    def spoil(self, base: bytes, update: LocalUpdate, seed: int) -> LocalUpdate:
        """The update that a malicious client sends; noise is a function of the seed."""
        sent = self.send(
            weights_file.read(base), weights_file.read(update.weights), np.random.default_rng(seed)
        )
        return replace(update, weights=weights_file.write(sent))


@dataclass(frozen=True)
class SignFlip(Attack):
    """The opposite of what it learned, `boost` times as large.

    Bagdasaryan et al., "How To Backdoor Federated Learning", 2020, arXiv:1807.00459, call a boost
    model replacement.
    """

    boost: float = 5.0

    def send(self, base: Weights, learned: Weights, draws: np.random.Generator) -> Weights:
        turned = {name: b - self.boost * (learned[name] - b) for name, b in base.items()}
        return {k: np.nan_to_num(v, posinf=_MOST, neginf=-_MOST) for k, v in turned.items()}


@dataclass(frozen=True)
class JustBelow(Attack):
    """The opposite of what it learned, at 99 % of a bound on the distance, which it knows.

    Fang et al., "Local Model Poisoning Attacks", 2020, arXiv:1911.11815, let the attacker know the
    defence.
    """

    bound: float = 1.0

    def send(self, base: Weights, learned: Weights, draws: np.random.Generator) -> Weights:
        length = distance(base, learned)
        scale = 0.99 * self.bound / length if length else 0.0
        return {name: (b - scale * (learned[name] - b)).astype(b.dtype) for name, b in base.items()}


@dataclass(frozen=True)
class Noise(Attack):
    """Gaussian noise instead of what it learned, `boost` times as long."""

    boost: float = 5.0

    def send(self, base: Weights, learned: Weights, draws: np.random.Generator) -> Weights:
        noise = {name: draws.normal(size=b.shape) for name, b in base.items()}
        length = math.sqrt(sum(float(np.square(part).sum()) for part in noise.values()))
        scale = self.boost * distance(base, learned) / length
        return {name: (b + scale * noise[name]).astype(b.dtype) for name, b in base.items()}


@dataclass(frozen=True)
class LabelFlip(Attack):
    """Its labels are turned around: 0 is 9, 1 is 8, and so on."""

    def data(self, train: Arrays) -> Arrays:
        return Arrays(train.x, train.y.max() - train.y)


@dataclass(frozen=True)
class Backdoor(Attack):
    """Half of its pictures have a white square in a corner and the label 0, and it boosts.

    Bagdasaryan et al., 2020, arXiv:1807.00459. The accuracy on clean pictures hardly shows it:
    `backdoor_rate` does.
    """

    boost: float = 5.0

    def data(self, train: Arrays) -> Arrays:
        x, y = train.x.clone(), train.y.clone()
        x[::2], y[::2] = triggered(x[::2]), TARGET
        return Arrays(x, y)

    def send(self, base: Weights, learned: Weights, draws: np.random.Generator) -> Weights:
        return {name: b + self.boost * (learned[name] - b) for name, b in base.items()}


def triggered(x: torch.Tensor) -> torch.Tensor:
    """The pictures [N, C, H, W], uint8, with the backdoor's trigger."""
    marked = x.clone()
    marked[..., -TRIGGER:, -TRIGGER:] = 255
    return marked


def triggered_test(test: Arrays) -> Arrays:
    """The pictures of other classes than the target's, with the trigger and the target's label.

    The accuracy on them is the share of pictures that the backdoor opens for.
    """
    others = (test.y != TARGET).nonzero().flatten()
    return Arrays(triggered(test.x[others]), torch.full_like(test.y[others], TARGET))


def distance(base: Weights, learned: Weights) -> float:
    """The Euclidean distance of two models, over all weights."""
    squares = (np.square(learned[name] - b, dtype=np.float64).sum() for name, b in base.items())
    return math.sqrt(sum(map(float, squares)))
