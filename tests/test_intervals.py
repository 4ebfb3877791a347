"""Intervals of measured figures, against values that a table or a hand gives."""

import pytest

from benchmarks.intervals import mean_interval, paired, sampling_error


def test_the_interval_of_a_mean_by_the_table_of_students_t():
    # Mean 3, standard deviation sqrt(2.5), n = 5; t of 4 degrees of freedom at 97.5 % is 2.776.
    low, high = mean_interval([1, 2, 3, 4, 5])
    assert (low, high) == (pytest.approx(3 - 1.963, abs=1e-3), pytest.approx(3 + 1.963, abs=1e-3))


def test_a_wider_interval_is_surer():
    narrow, wide = mean_interval([1, 2, 4], 0.9), mean_interval([1, 2, 4], 0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_a_test_set_of_400_examples_tells_a_rate_of_a_half_to_two_and_a_half_points():
    assert sampling_error(0.5, 400) == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("theirs", "verdict"),
    [
        ([0.901, 0.899, 0.900, 0.902], "equal within the margin"),
        ([0.95, 0.951, 0.949, 0.95], "lower"),
        ([0.80, 0.81, 0.79, 0.80], "higher"),
        ([0.95, 0.85, 0.93, 0.88], "no difference found"),
    ],
)
def test_pairs_show_equality_or_a_difference_or_nothing(theirs, verdict):
    assert paired([0.9, 0.9, 0.9, 0.9], theirs, 0.01).verdict == verdict


def test_the_mean_difference_by_the_table_of_students_t():
    found = paired([5, 6, 7, 8, 9], [4, 4, 4, 4, 4], 0.01)  # differences 1 to 5
    assert found.mean == 3
    assert found.interval == (pytest.approx(1.037, abs=1e-3), pytest.approx(4.963, abs=1e-3))
    with pytest.raises(ValueError, match="One pair"):
        paired([1], [2], 0.01)
