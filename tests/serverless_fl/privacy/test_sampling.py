"""Epsilons of secret cohorts are those of Google's library dp-accounting."""

from __future__ import annotations

import math

import pytest

from serverless_fl.privacy.accounting import epsilon_of
from serverless_fl.privacy.sampling import sampled_epsilon


# dp-accounting 0.6.0: RdpAccountant(ORDERS) of PoissonSampledDpEvent(rate, GaussianDpEvent(noise)),
# and PLDAccountant of the same, which is nearly exact.
@pytest.mark.parametrize(
    ("rate", "noise", "rounds", "delta", "expected", "exact"),
    [
        (0.1, 1.0, 100, 1e-5, 7.972921510380539, 7.04660287720805),
        (0.05, 1.0, 100, 1e-5, 4.111651877541296, 3.502148541038205),
        (0.01, 1.1, 1000, 1e-5, 1.7252908180449444, 1.5153702481094293),
        (0.1, 4.0, 50, 1e-4, 0.6356853009078218, 0.5598567430859452),
        (0.1, 0.7, 100, 1e-5, 16.60881340145445, 14.592362367203107),
    ],
)
def test_it_is_the_library_s_and_above_the_exact_one(rate, noise, rounds, delta, expected, exact):
    found = sampled_epsilon(rate, noise, rounds, delta)
    assert found == pytest.approx(expected, rel=1e-9)
    assert exact < found < 1.2 * exact


def test_it_costs_no_more_than_to_take_part_in_every_round():
    for rate in (0.5, 0.9, 1.0):
        full = epsilon_of(math.sqrt(3) / 2, 1e-2)
        assert sampled_epsilon(rate, 2.0, 3, 1e-2) <= full
    assert sampled_epsilon(1.0, 2.0, 3, 1e-2) == full
    assert sampled_epsilon(0.1, 2.0, 0, 1e-2) == 0


def test_it_grows_with_rounds_and_rate_and_falls_with_the_noise():
    by_rounds = [sampled_epsilon(0.1, 1.5, rounds, 1e-5) for rounds in range(0, 200, 10)]
    by_rate = [sampled_epsilon(rate / 50, 1.5, 40, 1e-5) for rate in range(1, 51)]
    by_noise = [sampled_epsilon(0.1, noise, 40, 1e-5) for noise in (0.5, 1.0, 2.0, 4.0, 50.0)]
    assert by_rounds == sorted(by_rounds)
    assert by_rate == sorted(by_rate)
    assert by_noise == sorted(by_noise, reverse=True)
