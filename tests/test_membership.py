"""The attackers of `benchmarks.membership`, by figures that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import membership

INSIDE = np.array([True, True, False, False])


@pytest.mark.parametrize(
    ("scores", "area"),
    [([3, 2, 1, 0], 1.0), ([0, 1, 2, 3], 0.0), ([1, 1, 1, 1], 0.5), ([3, 1, 2, 0], 0.75)],
)
def test_the_area_is_how_often_a_member_scores_higher(scores, area):
    assert membership.area(np.array(scores, float), INSIDE) == area


def test_members_above_nearly_all_others_are_found():
    inside = np.repeat([True, False], 100)
    scores = np.concatenate([np.full(40, 200.0), np.zeros(60), np.arange(100.0)])
    assert membership.found_at(scores, inside, rate=0.05) == 0.4


def test_each_example_is_in_half_of_the_models():
    inside = membership.halves(11, 6, seed=0)
    assert (inside.sum(0) == 3).all()
    assert (membership.halves(11, 6, seed=0) == inside).all()


def test_a_ratio_compares_with_models_with_and_without_the_example():
    """With a spread of 1 on both sides: log N(x; 4, 1) - log N(x; 0, 1) = 4x - 8."""
    inside = np.array([[True], [True], [False], [False]])
    shadows = np.array([[3.0], [5.0], [-1.0], [1.0]])
    for target, ratio in ((4.0, 8.0), (2.0, 0.0), (0.0, -8.0)):
        found = membership.likelihood_ratios(np.array([target]), shadows, inside)
        assert found == pytest.approx([ratio])


def test_an_example_that_is_in_all_models_is_no_evidence():
    inside = np.array([[True, True], [True, False], [True, False]])
    shadows = np.array([[1.0, 1.0], [2.0, 3.0], [3.0, 5.0]])
    found = membership.likelihood_ratios(np.array([9.0, 9.0]), shadows, inside)
    assert found[0] == 0.0
