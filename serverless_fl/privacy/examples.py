"""Differential privacy of single examples: what steps of DP-SGD cost, and their noise.

A step takes each example by itself with the same probability (Poisson sampling), shortens each
one's gradient to a norm, and adds Gaussian noise to their sum (Abadi et al., "Deep Learning with
Differential Privacy", 2016, arXiv:1607.00133). Its cost is that of the sampled Gaussian mechanism
(`sampling`), and the costs of all steps add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from serverless_fl.privacy.sampling import composed_epsilon

DELTA = 1e-5  # unless an experiment sets another one
EXAMPLE_EPSILON = "example_epsilon"  # the metric by which a client says what its examples cost


@dataclass(frozen=True, kw_only=True)
class ExampleNoise:
    """How steps are made private, and the `delta` with which their epsilon is stated.

    A gradient longer than `clip_norm` is shortened to it. The noise on the sum of a step has a
    deviation of `noise_multiplier` times `clip_norm` in each weight.
    """

    noise_multiplier: float
    clip_norm: float
    delta: float = DELTA


@dataclass(frozen=True, kw_only=True)
class NoisySteps:
    """Steps of DP-SGD: the chance of an example to be in one, their noise, and their number."""

    rate: float
    noise_multiplier: float
    steps: int


def steps_of(noise: ExampleNoise, examples: int, batch_size: int, epochs: int) -> NoisySteps:
    """Give the steps of a training on so many examples: as many an epoch as without privacy.

    Raises ValueError for a batch that is larger than the data.
    """
    if examples < batch_size:
        raise ValueError(f"{examples} examples are fewer than a batch of {batch_size}")
    return NoisySteps(
        rate=batch_size / examples,
        noise_multiplier=noise.noise_multiplier,
        steps=epochs * math.ceil(examples / batch_size),
    )


def epsilon_of_steps(spent: Iterable[NoisySteps], delta: float) -> float:
    """Give an upper bound of the epsilon of all these steps together."""
    return composed_epsilon([(one.rate, one.noise_multiplier, one.steps) for one in spent], delta)
