"""The geometric median: by hand, against RFA's passes on vectors, and against SciPy's minimum."""

import numpy as np
import pytest
from scipy.optimize import minimize

from serverless_fl.aggregation.geometric_median import GeometricMedian
from serverless_fl.aggregation.in_memory import aggregate
from serverless_fl.aggregation.strategy import UpdateFacts


def clients(examples):
    return [UpdateFacts(client=i, num_examples=int(n)) for i, n in enumerate(examples)]


def test_one_pass_by_hand():
    """The mean of 0, 0, 3 is 1; distances 1, 1, 2; (0 + 0 + 3 / 2) / (1 + 1 + 1 / 2) = 0.6."""
    found, _ = aggregate(GeometricMedian(weiszfeld_passes=1), [0.0], [[0.0], [0.0], [3.0]])
    assert found[0] == pytest.approx(0.6)


def test_examples_are_weights():
    """Two examples at 0 are two clients there."""
    found, _ = aggregate(
        GeometricMedian(weiszfeld_passes=1), [0.0], [[0.0], [3.0]], clients([2, 1])
    )
    assert found[0] == pytest.approx(0.6)


def test_a_distance_of_0_counts_as_a_millionth():
    """The mean of 0, -2, 1, 1 is 0; (-2 / 2 + 1 + 1) / (10^6 + 1 / 2 + 1 + 1)."""
    updates = [[0.0], [-2.0], [1.0], [1.0]]
    found, _ = aggregate(GeometricMedian(weiszfeld_passes=1), [0.0], updates)
    assert found[0] == pytest.approx(1 / (10**6 + 2.5), rel=1e-6)


def test_on_a_line_it_is_the_median():
    found, _ = aggregate(GeometricMedian(), [10.0], [[1.0], [2.0], [3.0], [400.0], [-7.0]])
    assert found[0] == pytest.approx(2, abs=1e-3)


def passes_on_vectors(updates, examples, passes, nearest=1e-6):
    """The paper's algorithm 2, begun at the weighted mean as in krishnap25/RFA."""
    shares = examples / examples.sum()
    point = shares @ updates
    for _ in range(passes):
        weights = [
            share / max(nearest, float(np.sqrt(np.sum((point - update) ** 2))))
            for share, update in zip(shares, updates, strict=True)
        ]
        point = np.array(weights) @ updates / sum(weights)
    return point


@pytest.mark.parametrize("passes", [1, 4, 100])
def test_random_rounds_agree_with_passes_on_vectors(passes):
    random = np.random.default_rng(passes)
    for _ in range(10):
        base, updates = random.normal(size=5), random.normal(size=(8, 5))
        examples = random.integers(1, 30, 8)
        found, _ = aggregate(
            GeometricMedian(weiszfeld_passes=passes), base, updates, clients(examples)
        )
        np.testing.assert_allclose(found, passes_on_vectors(updates, examples, passes), rtol=1e-6)


def test_it_has_the_least_sum_of_distances():
    random = np.random.default_rng(8)
    updates = random.normal(size=(9, 3))
    found, _ = aggregate(GeometricMedian(), np.zeros(3), updates)
    best = minimize(lambda z: np.linalg.norm(updates - z, axis=1).sum(), np.zeros(3), tol=1e-12)
    np.testing.assert_allclose(found, best.x, atol=1e-5)


def test_a_change_whose_norm_overflows_gets_no_weight():
    products = np.array([[1.0, 2.0, np.inf], [2.0, 4.0, np.nan], [np.inf, np.nan, np.inf]])
    weights = GeometricMedian().weights(products, clients([1, 1, 1]))
    assert weights[2] == 0 and weights[:2].sum() == pytest.approx(1)
