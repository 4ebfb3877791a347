"""Random numbers of splits: their laws, and that they never change."""

import math
from hashlib import blake2b

import numpy as np
import pytest
from scipy import stats

from client_sdk.data.splits.stream import Stream, cut, exp, ln, shares

LIKELY = 1e-3  # of a seed that is fixed: the tests fail for a changed law, never by chance


def test_the_first_numbers_never_change():
    """Golden values: another one would change the splits of all runs."""
    digest = blake2b(b"golden 0", digest_size=64, key=b"7").digest()
    wanted = [int.from_bytes(digest[n : n + 8], "big") for n in range(0, 64, 8)]
    assert Stream(7, "golden").bits(8).tolist() == wanted
    assert Stream(7, "golden").permutation(8).tolist() == sorted(range(8), key=wanted.__getitem__)
    stream = Stream(7, "golden")
    found = [stream.uniform(), stream.normal(), stream.log_gamma(0.3), stream.log_gamma(4.0)]
    assert [value.hex() for value in found] == [
        "0x1.18bdf8ab51324p-3",
        "0x1.1a53aba452314p+1",
        "-0x1.755b750a22793p+2",
        "0x1.83ab2523a8d8ep+0",
    ]


def test_streams_of_other_seeds_and_purposes_differ():
    found = [Stream(*key).bits(4).tolist() for key in ((1, "a"), (2, "a"), (1, "b"), (2**63, "a"))]
    assert len({tuple(one) for one in found}) == 4


def test_bits_go_on_where_the_last_ones_ended():
    whole, parts = Stream(1, "a"), Stream(1, "a")
    assert whole.bits(16).tolist() == [*parts.bits(8).tolist(), *parts.bits(8).tolist()]


def test_uniform_numbers_are_uniform():
    stream = Stream(1, "uniform")
    found = [stream.uniform() for _ in range(20_000)]
    assert 0 < min(found) < max(found) < 1
    assert stats.kstest(found, "uniform").pvalue > LIKELY


def test_normal_numbers_are_normal():
    stream = Stream(1, "normal")
    assert stats.kstest([stream.normal() for _ in range(20_000)], "norm").pvalue > LIKELY


@pytest.mark.parametrize("shape", [0.001, 0.05, 0.5, 1.0, 3.7, 1000.0])
def test_gamma_variates_have_the_law_of_their_shape(shape):
    stream = Stream(1, "gamma")
    found = [stream.log_gamma(shape) for _ in range(5000)]
    assert stats.kstest(found, stats.loggamma(shape).cdf).pvalue > LIKELY


def test_all_orders_are_equally_likely():
    stream = Stream(1, "order")
    counts = np.zeros(120, int)
    for _ in range(12_000):
        place = 0
        order = stream.permutation(5).tolist()
        while order:  # the number of the order, in a system of falling bases
            place = place * len(order) + sorted(order).index(order[0])
            order.pop(0)
        counts[place] += 1
    assert stats.chisquare(counts).pvalue > LIKELY


@pytest.mark.parametrize(("alpha", "count"), [(0.05, 4), (0.5, 10), (1.0, 2), (20.0, 5)])
def test_dirichlet_shares_have_their_mean_and_variance(alpha, count):
    stream = Stream(1, "dirichlet")
    found = np.array([stream.dirichlet([alpha] * count) for _ in range(4000)])
    assert np.allclose(found.sum(1), 1)
    variance = (count - 1) / (count**2 * (count * alpha + 1))
    assert np.abs(found.mean(0) - 1 / count).max() < 4 * math.sqrt(variance / 4000)
    assert found.var(0) == pytest.approx(variance, rel=0.12)


def test_shares_of_the_smallest_shape_are_shares():
    stream = Stream(1, "small")
    for _ in range(300):
        found = stream.dirichlet([0.0001] * 5)
        assert sum(found) == pytest.approx(1)
        assert min(found) >= 0


def test_logarithms_and_exponentials_are_those_of_the_library():
    for x in np.exp(np.linspace(-600, 600, 4001)).tolist():
        assert ln(x) == pytest.approx(math.log(x), rel=1e-14, abs=1e-15)
    for x in np.linspace(-680, 0, 4001).tolist():
        assert exp(x) == pytest.approx(math.exp(x), rel=2e-13)
    assert exp(-1e9) == 0.0
    assert shares([-5000.0, -5000.0]) == [0.5, 0.5]


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_a_cut_gives_all_in_pieces_near_their_shares(count):
    parts = [0.5, 0.0, 0.3, 0.2]
    found = cut(np.arange(count), parts)
    assert np.concatenate(found).tolist() == list(range(count))
    for piece, share in zip(found, parts, strict=True):
        assert abs(len(piece) - share * count) <= 1
