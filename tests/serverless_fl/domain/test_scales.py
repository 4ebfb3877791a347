"""Means and deviations out of the parties' sums, compared with NumPy over the pooled values."""

import math
import random

import numpy as np
import pytest

from serverless_fl.domain.scales import scales_of
from tests.support.own_data import sums


@pytest.mark.parametrize(("mean", "deviation"), [(0, 1), (54.2, 17.9), (1.7e9, 1e7), (-3e-5, 2e-6)])
def test_they_are_those_of_the_pooled_values(mean, deviation):
    rng = np.random.default_rng(0)
    parts = [rng.normal(mean, deviation, size) for size in (3, 100, 1)]
    (found,) = scales_of(["x"], [[sums("x", *map(float, part))] for part in parts])
    pooled = np.concatenate(parts)
    assert found.count == len(pooled)
    assert found.mean == pytest.approx(pooled.mean(), rel=1e-12)
    assert found.deviation == pytest.approx(pooled.std(), rel=1e-6)


def test_the_order_of_the_parties_changes_no_bit():
    parties = [[sums("x", 0.1 * n, 1e9 / (n + 1))] for n in range(50)]
    first = scales_of(["x"], parties)
    for seed in range(5):
        shuffled = random.Random(seed).sample(parties, len(parties))
        assert scales_of(["x"], shuffled) == first


@pytest.mark.parametrize("values", [[], [7.0], [0.1] * 10, [1e9 + 0.1] * 3])
def test_a_column_without_spread_has_deviation_one(values):
    (found,) = scales_of(["x"], [[sums("x", *values)]])
    assert found.deviation == 1.0
    assert math.isclose(found.mean, values[0] if values else 0.0)


def test_the_largest_sums_stay_finite():
    from serverless_fl.domain.agreement import MAX_SQUARES, MAX_SUM, ColumnSums

    most = ColumnSums(column="x", count=1, sum=MAX_SUM, squares=MAX_SQUARES)
    least = ColumnSums(column="x", count=1, sum=-MAX_SUM, squares=MAX_SQUARES)
    (found,) = scales_of(["x"], [[most], [least]])
    assert (found.mean, found.deviation) == (0.0, 1e100)
