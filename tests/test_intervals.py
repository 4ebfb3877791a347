"""Intervals of measured figures, against values that a table or a hand gives."""

import pytest

from benchmarks.intervals import mean_interval, sampling_error


def test_the_interval_of_a_mean_by_the_table_of_students_t():
    # Mean 3, standard deviation sqrt(2.5), n = 5; t of 4 degrees of freedom at 97.5 % is 2.776.
    low, high = mean_interval([1, 2, 3, 4, 5])
    assert (low, high) == (pytest.approx(3 - 1.963, abs=1e-3), pytest.approx(3 + 1.963, abs=1e-3))


def test_a_wider_interval_is_surer():
    narrow, wide = mean_interval([1, 2, 4], 0.9), mean_interval([1, 2, 4], 0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_a_test_set_of_400_examples_tells_a_rate_of_a_half_to_two_and_a_half_points():
    assert sampling_error(0.5, 400) == pytest.approx(0.025)
