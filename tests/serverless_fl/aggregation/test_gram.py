"""The Gram matrix of changes, and weights of which a mean can be taken."""

import numpy as np
import pytest

from serverless_fl.aggregation.gram import add_products, rounded, sound
from serverless_fl.aggregation.stepping import StrategyFault
from serverless_fl.aggregation.strategy import MAX_WEIGHT


def test_products_of_changes_by_hand():
    gram = np.zeros((2, 2))
    add_products(gram, np.array([[2.0, 1.0], [1.0, 4.0]], np.float32), np.array([1.0, 1.0]))
    np.testing.assert_array_equal(rounded(gram), [[1.0, 0.0], [0.0, 9.0]])


@pytest.mark.parametrize("rows", [1, 7, 600])
def test_they_are_those_of_a_matrix_product_however_the_elements_are_cut(rows):
    draw = np.random.default_rng(rows)
    columns, base = draw.normal(size=(rows, 3_000)), draw.normal(size=3_000)
    cut, whole = np.zeros((rows, rows)), np.zeros((rows, rows))
    add_products(whole, columns, base)
    for some in (slice(0, 1_000), slice(1_000, 1_001), slice(1_001, None)):
        add_products(cut, columns[:, some], base[some])
    changes = columns - base
    np.testing.assert_allclose(rounded(whole), changes @ changes.T, rtol=1e-9, atol=1e-9 * 3_000)
    np.testing.assert_allclose(rounded(cut), rounded(whole), rtol=1e-10, atol=1e-10 * 3_000)


def test_small_changes_of_large_weights_are_no_noise():
    """|a|^2 + |b|^2 - 2ab of the float32 weights would be."""
    base = np.full(1_000, 1e4)
    columns = np.float32(base + np.random.default_rng(0).normal(size=(3, 1_000)))
    gram = np.zeros((3, 3))
    add_products(gram, columns, base)
    changes = columns.astype(np.float64) - base
    np.testing.assert_allclose(rounded(gram), changes @ changes.T, rtol=1e-9, atol=1e-6)


def test_the_last_bits_decide_no_tie():
    gram = np.array([[225.0, 90.0], [0.0, np.nextafter(225.0, 226)]])
    found = rounded(gram)
    assert found[0, 0] == found[1, 1]
    np.testing.assert_array_equal(found, found.T)


def test_overflow_stays_infinite():
    gram = np.zeros((1, 1))
    add_products(gram, np.array([[1e200, 1.0]]), np.zeros(2))
    assert rounded(gram)[0, 0] == np.inf


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [np.inf, 1.0]])
def test_weights_of_which_there_is_no_mean_are_a_fault(weights):
    with pytest.raises(StrategyFault):
        sound(np.array(weights))


def test_weights_are_halved_until_their_sum_is_in_bounds():
    assert sound(np.array([1, 0])) == [1.0, 0.0]
    large = sound(np.array([3e12, 1e12]))
    assert sum(large) <= MAX_WEIGHT
    assert large[0] == 3 * large[1]
