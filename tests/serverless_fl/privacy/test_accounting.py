"""Epsilons are those of Google's library dp-accounting."""

from __future__ import annotations

import math

import pytest

from serverless_fl.privacy.accounting import epsilon_of


# dp-accounting 0.6.0: get_epsilon_gaussian(noise_multiplier / sqrt(rounds), delta).
@pytest.mark.parametrize(
    ("noise_multiplier", "rounds", "delta", "expected"),
    [
        (1, 1, 1e-5, 4.377178095681137),
        (1, 100, 1e-5, 91.81728962466373),
        (20, 1, 1e-5, 0.16004203445813098),
        (4, 30, 1e-5, 6.325715393876203),
        (5, 17, 1e-3, 2.4761399025745043),
        (0.5, 2, 1e-6, 16.860440396295285),
    ],
)
def test_it_is_the_library_s(noise_multiplier, rounds, delta, expected):
    found = epsilon_of(math.sqrt(rounds) / noise_multiplier, delta)
    assert found == pytest.approx(expected, rel=1e-8)
    assert found >= expected * (1 - 1e-12)  # rounded upwards


def test_no_noise_is_needed_where_nothing_is_told_and_little_noise_costs_much():
    assert epsilon_of(0.0, 1e-5) == 0
    assert epsilon_of(1e-7, 1e-5) == 0
    assert epsilon_of(1000.0, 1e-5) == pytest.approx(504_243, rel=1e-3)


def test_it_grows_with_the_rounds_and_falls_with_delta():
    found = [epsilon_of(math.sqrt(rounds) / 3, 1e-5) for rounds in range(1, 200)]
    assert found == sorted(found)
    assert epsilon_of(1, 1e-9) > epsilon_of(1, 1e-3)
