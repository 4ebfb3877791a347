"""The coordinate median, the trimmed mean and Bulyan's second half: by hand and by plain loops."""

import statistics

import numpy as np
import pytest

from serverless_fl.aggregation.bulyan import Bulyan
from serverless_fl.aggregation.in_memory import aggregate
from serverless_fl.aggregation.median import Median
from serverless_fl.aggregation.strategy import UpdateFacts
from serverless_fl.aggregation.trimmed_mean import TrimmedMean


def columns(*values):
    return np.array(values, float)[:, None]


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two():
    assert Median().reduce(columns(9, 1, 2, 4), [])[0] == 3


def test_the_median_asks_for_nobodys_number_of_examples():
    facts = [UpdateFacts(client=i, num_examples=n) for i, n in enumerate([1, 1, 10**6])]
    assert aggregate(Median(), [0.0], [[1.0], [2.0], [9.0]], facts)[0] == 2


def test_the_trimmed_mean_by_hand():
    """Without 1 and 100: (2 + 6) / 2."""
    assert TrimmedMean(byzantine=1).reduce(columns(100, 2, 1, 6), [])[0] == 4


def test_a_small_round_is_trimmed_too():
    """Flower's cuts int(0.2 * 4) = 0 of four updates."""
    assert aggregate(TrimmedMean(byzantine=1), [0.0], columns(1, 3, 5, 1e6))[0] == 4


@pytest.mark.parametrize(("byzantine", "least"), [(0, 1), (1, 3), (4, 9)])
def test_too_small_a_round_is_refused(byzantine, least):
    strategy = TrimmedMean(byzantine=byzantine)
    assert strategy.fault(least) is None
    fault = strategy.fault(least - 1)
    assert fault is not None and f"at least {least}" in fault


def test_bulyan_averages_around_the_median():
    """Of five chosen values and f = 1 the three nearest the median 3: 2, 3 and 5."""
    assert Bulyan(byzantine=1).reduce(columns(30, 5, 3, 2, -9), [])[0] == pytest.approx(10 / 3)


def test_of_two_values_at_one_distance_bulyan_takes_the_smaller_in_any_order():
    """The median of 0, 2, 3, 4, 5 is 3, and f = 1 keeps three: 3, and two of 2, 4 and 5: 2 and 4.

    The median of 0, 2, 4, 6 is 3, and two are kept: 2 and 4. That of 1, 2, 4, 5, 6 is 4, and after
    4 and 5 comes 2 or 6: 2.
    """
    for values, mean in [
        ([0, 2, 3, 4, 5], 3),
        ([0, 2, 4, 6], 3),
        ([1, 2, 4, 5, 6], 11 / 3),
    ]:
        for order in (values, values[::-1]):
            assert Bulyan(byzantine=1).reduce(columns(*order), [])[0] == pytest.approx(mean)


@pytest.mark.parametrize("updates", [7, 8, 15, 40])
def test_random_columns_agree_with_plain_loops(updates):
    random = np.random.default_rng(updates)
    values = random.normal(size=(updates, 11))
    by_element = [sorted(column) for column in values.T.tolist()]
    np.testing.assert_allclose(
        Median().reduce(values, []), [statistics.median(c) for c in by_element]
    )
    np.testing.assert_allclose(
        TrimmedMean(byzantine=2).reduce(values, []), [np.mean(c[2:-2]) for c in by_element]
    )
    around = []
    for column in by_element:
        distances = [abs(value - statistics.median(column)) for value in column]
        nearest = sorted(zip(distances, column, strict=True))[: updates - 2]
        around.append(np.mean([value for _, value in nearest]))
    np.testing.assert_allclose(Bulyan(byzantine=1).reduce(values, []), around)
