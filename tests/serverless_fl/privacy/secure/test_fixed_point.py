"""Fixed point: by hand, exact sums, and bounds of the error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serverless_fl.privacy.secure.fixed_point import (
    FixedPoint,
    decode_counts,
    encode_counts,
)


class Half:
    """A draw that rounds to the nearest."""

    def random(self, size):
        return np.full(size, 0.5)


def test_by_hand():
    """Three parties have 32767 // 3 = 10922 levels; half of the reach is 5461 of them."""
    point = FixedPoint(bits=16, reach=2.0, parties=3, most_examples=10)
    assert point.levels == 10922
    changes = np.array([1.0, -1.0, 2.0, 9.0, 0.0])
    assert point.encode(changes, 10, Half()).tolist() == [5461, 65536 - 5461, 10922, 10922, 0]
    assert point.encode(changes, 5, Half()).tolist() == [2731, 65536 - 2730, 5461, 5461, 0]
    sums = np.array([5461, 65536 - 5461], np.uint16)
    assert point.decode(sums, 10).tolist() == pytest.approx([1.0, -1.0])
    assert point.decode(sums, 20).tolist() == pytest.approx([0.5, -0.5])


@settings(max_examples=40)
@given(bits=st.sampled_from([16, 32]), parties=st.integers(3, 60), seed=st.integers(0, 999))
def test_the_mean_is_as_near_as_the_steps_and_never_overflows(bits, parties, seed):
    draw = np.random.default_rng(seed)
    point = FixedPoint(bits=bits, reach=0.25, parties=parties, most_examples=100)
    changes = draw.uniform(-0.4, 0.4, (parties, 50))
    examples = draw.integers(1, 150, parties)
    total = np.zeros(50, point.dtype)
    for row, count in zip(changes, examples, strict=True):
        total += point.encode(row, int(count), draw)
    counted = np.minimum(examples, 100)
    exact = counted @ np.clip(changes, -0.25, 0.25) / counted.sum()
    step = 0.25 / point.levels * 100 / counted.sum()
    assert np.abs(point.decode(total, int(counted.sum())) - exact).max() <= step * parties


def test_rounding_has_no_bias():
    point = FixedPoint(bits=16, reach=1.0, parties=3, most_examples=1)
    words = point.encode(np.full(100_000, 0.3 / point.levels), 1, np.random.default_rng(0))
    assert set(words.tolist()) == {0, 1}
    assert abs(words.mean() - 0.3) < 0.01


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_change_that_is_not_finite_is_refused(bad):
    point = FixedPoint(bits=16, reach=1.0, parties=3, most_examples=1)
    with pytest.raises(ValueError, match="not finite"):
        point.encode(np.array([0.0, bad]), 1, Half())


def test_counts_and_metrics_in_the_sum():
    names = ["accuracy", "loss", "f1"]
    one = encode_counts(names, 30, {"accuracy": 0.5, "loss": 2.0, "other": 9.0})
    two = encode_counts(names, 10, {"accuracy": 1.0, "loss": -3.0})
    assert one.tolist() == [30, 30, 30 << 15, 30, 30 << 17, 0, 0]
    found = decode_counts(names, one + two)
    assert found.examples == 40
    assert found.metrics == {"accuracy": 0.625, "loss": pytest.approx(0.75)}


def test_counts_that_are_noise_are_refused():
    for words in ([0, 0, 0], [2**63, 0, 0], [5, 6, 0], [1 << 40, 1, 1]):
        with pytest.raises(ValueError, match="not those of a round"):
            decode_counts(["a"], np.array(words, np.uint64))
