"""FedAvg beside exact fractions, and int8's rounding beside its values."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import safetensors.numpy

from serverless_fl.aggregation.mean import WeightedMean
from serverless_fl.weights import encodings
from serverless_fl.weights.deltas import encode_update

STEP = 1 / 127
VALUES = np.linspace(-1, 1, 200).astype(np.float32) ** 3


def fedavg_error(seed: int, values: int, updates: int) -> float:
    """The largest relative error of a weighted mean of float64 values."""
    dice = np.random.default_rng(seed)
    arrays = [np.exp(dice.normal(size=values)) for _ in range(updates)]
    counts = [int(n) for n in dice.integers(1, 5000, updates)]
    strategy = WeightedMean(values)
    for array, count in zip(arrays, counts, strict=True):
        strategy.add([array], count)
    means = strategy.result()
    total, worst = sum(counts), 0.0
    for place in range(values):
        exact = sum(Fraction(float(a[place])) * n for a, n in zip(arrays, counts, strict=True))
        exact /= total
        worst = max(worst, float(abs(Fraction(float(means[place])) - exact) / exact))
    return worst


def int8_errors(draws: int) -> np.ndarray:
    """What rounding adds to each of 200 values from -1 to 1: [draws, 200], in steps of int8."""
    base = safetensors.numpy.save({"w": np.zeros(200, np.float32)})
    trained = safetensors.numpy.save({"w": VALUES})
    found = np.empty((draws, 200))
    for seed in range(draws):
        sent = safetensors.numpy.load(encode_update(base, trained, "delta-int8", seed))
        found[seed] = sent["w"].astype(np.float64) * float(sent[encodings.SCALES][0]) - VALUES
    return found / STEP


def bias(errors: np.ndarray) -> float:
    """The largest mean error, in standard errors of a rounding by chance (at most half a step)."""
    return float(np.abs(errors.mean(0)).max() / (0.5 / np.sqrt(len(errors))))


def dependence(errors: np.ndarray) -> float:
    """The largest correlation of two values' errors, in standard errors of independent ones."""
    chance = errors[:, errors.std(0) > 0.1]  # a value near a step is nearly never rounded up
    correlations = np.corrcoef(chance.T)
    np.fill_diagonal(correlations, 0.0)
    return float(np.abs(correlations).max() * np.sqrt(len(errors)))
