"""The draws: random, disjoint, equal, and the same everywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serverless_fl.domain import draws
from tests.audit import draws as audit


@given(
    seed=st.integers(0, 2**63 - 1),
    clients=st.integers(1, 40),
    extra=st.integers(0, 2000),
)
def test_shards_are_disjoint_cover_the_set_and_are_equal(seed, clients, extra):
    size = clients + extra
    shards = [draws.shard(seed, size, clients, slot) for slot in range(clients)]
    assert sorted(i for shard in shards for i in shard) == list(range(size))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert all(
        draws.shard_bounds(size, clients, slot)[1] - draws.shard_bounds(size, clients, slot)[0]
        == len(shard)
        for slot, shard in enumerate(shards)
    )


def test_a_shard_is_spread_over_the_whole_set():
    # 60 bins of 1,000; a shard of 3,000 puts 50 in each on average. Chi-square with 59 degrees of
    # freedom: 110 is beyond the 0.9999 quantile, so a biased shuffle shows and a good one does not.
    shard = draws.shard(7, 60_000, 20, 3)
    bins = [0] * 60
    for index in shard:
        bins[index // 1000] += 1
    assert sum((count - 50) ** 2 / 50 for count in bins) < 110


def test_neighbours_are_separated():
    # Among 3,000 random of 60,000, about 1 in 20 is followed by its successor.
    shard = set(draws.shard(11, 60_000, 20, 0))
    followed = sum(index + 1 in shard for index in shard)
    assert 90 < followed < 220


def test_other_seeds_draw_other_shards():
    assert draws.shard(1, 1000, 10, 0) != draws.shard(2, 1000, 10, 0)


def test_known_draws_never_change():
    # A coordinator of another version must draw the same: experiments outlive deployments.
    assert draws.shard(0, 100, 20, 0, version=1) == KNOWN_SHARD
    assert draws.shard(0, 100, 20, 0, version=2) == draws.shard(0, 100, 20, 0) == KNOWN_SHARD_OF_2
    assert draws.shard(0, 20, 4, 0, version=2) == KNOWN_SMALL_SHARD_OF_2
    assert draws.cohort(0, 1, 1, range(20), 10) == KNOWN_COHORT


KNOWN_SHARD = [9, 12, 17, 29, 65]
KNOWN_SHARD_OF_2 = [17, 26, 32, 33, 40]
KNOWN_SMALL_SHARD_OF_2 = [7, 10, 12, 16, 19]
KNOWN_COHORT = [0, 3, 4, 5, 6, 8, 9, 11, 13, 17]


def test_every_client_is_drawn_equally_often():
    assert audit.cohorts(2000) < 5


@given(st.integers(0, 99), st.integers(1, 50), st.integers(1, 50))
def test_a_cohort_is_a_sorted_draw_without_replacement(seed, clients, size):
    cohort = draws.cohort(seed, 3, 1, range(clients), size)
    assert cohort == sorted(set(cohort))
    assert len(cohort) == min(size, clients)
    assert set(cohort) <= set(range(clients))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 255, 256, 257])
def test_small_and_odd_sizes_are_permuted_whole(size):
    assert draws.shard(3, size, 1, 0) == list(range(size))


@pytest.mark.parametrize(("size", "each"), [(2, 500), (3, 500), (4, 100), (5, 50), (6, 12)])
def test_all_orders_of_a_small_set_are_equally_likely(size, each):
    """Four Feistel rounds fail this at 5 and 6."""
    assert audit.orders(size, each) < 5


@pytest.mark.parametrize(("size", "seeds"), [(10, 1500), (20, 1500), (64, 600), (128, 400)])
def test_every_example_comes_to_every_place_equally_often(size, seeds):
    """Four Feistel rounds fail this at 10 and 20."""
    worst, together = audit.places(size, seeds)
    assert worst < 6
    assert together < 5


@pytest.mark.parametrize(("size", "seeds"), [(128, 100), (1024, 60)])
def test_classes_mix_in_shards_as_much_as_chance_mixes_them(size, seeds):
    """With four Feistel rounds the variance was twice as large as by chance at 128."""
    assert 0.8 < audit.class_mix(size, seeds) < 1.2


def test_a_version_that_is_not_known_is_an_error():
    with pytest.raises(KeyError):
        draws.shard(0, 100, 20, 0, version=3)
