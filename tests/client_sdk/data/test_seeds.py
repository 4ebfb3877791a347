"""Draws of the clients depend on all bits of a seed, and stay the same in every version."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from client_sdk.data.holdout import hold_out
from client_sdk.data.seeds import SeededRandom
from client_sdk.task import model_file, models
from client_sdk.task.settings import TrainSettings
from client_sdk.task.train import train

SPEC = models.spec_for("digits-cnn", (1, 8, 8), 10)


def test_every_bit_of_a_seed_counts():
    seeds = [0, *(1 << bit for bit in range(63)), 2**63 - 1]
    assert len({tuple(SeededRandom(seed).permutation(40).tolist()) for seed in seeds}) == 65
    first = [models.build(SPEC, seed).conv1.weight.flatten().tolist() for seed in seeds[::8]]
    assert len(set(map(tuple, first))) == len(first)
    assert len({tuple(hold_out(range(40), seed)[1]) for seed in seeds}) > 50
    trained = set()
    x, y = torch.randn(12, 1, 8, 8), torch.arange(12) % 10
    for seed in (5, 5 + 2**32, 5 + 2**62):
        model = models.build(SPEC, 0)
        train(model, x, y, TrainSettings(1, 4, 0.1, 0.5), seed)
        trained.add(model_file.to_bytes(model))
    assert len(trained) == 3


def test_known_draws():
    """They must never change: an experiment that goes on has drawn so before."""
    dice = SeededRandom(7)
    assert dice.permutation(8).tolist() == KNOWN
    assert dice.permutation(8).tolist() != KNOWN


KNOWN = [4, 1, 6, 3, 2, 7, 5, 0]


def test_permutations_are_uniform():
    count = 6_000
    found = Counter(tuple(SeededRandom(seed).permutation(3).tolist()) for seed in range(count))
    assert set(found) == set(itertools.permutations(range(3)))
    chi = sum((n - count / 6) ** 2 / (count / 6) for n in found.values())
    assert chi < 25.7  # five degrees of freedom, p = 1e-4


def test_uniform_fills_its_interval_evenly():
    values = SeededRandom(3).uniform((100, 1000), 0.25)
    assert values.shape == (100, 1000)
    assert values.dtype == np.float32
    assert abs(values).max() <= 0.25
    counts = np.histogram(values, 20, (-0.25, 0.25))[0]
    assert float(((counts - 5000) ** 2 / 5000).sum()) < 50.8  # 19 degrees of freedom, p = 1e-4


def test_initial_weights_are_spread_as_pytorchs_are():
    ours, theirs = models.build(SPEC, 1), models.build(SPEC)
    assert all(p.requires_grad for p in ours.parameters())
    states = ours.state_dict(), theirs.state_dict()
    for mine, other in zip(*(state.values() for state in states), strict=True):
        assert mine.shape == other.shape
        if mine.numel() > 500:
            assert float(mine.std()) == pytest.approx(float(other.std()), rel=0.1)
            assert float(mine.abs().max()) == pytest.approx(float(other.abs().max()), rel=0.02)


def test_a_seed_below_zero_is_refused():
    with pytest.raises(ValueError, match=r"\d"):
        SeededRandom(-1)
