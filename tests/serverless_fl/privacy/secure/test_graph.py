"""The graph of neighbours, and the parameters for a number of parties."""

from __future__ import annotations

import pytest

from serverless_fl.privacy.secure.graph import Parameters, neighbours, parameters


@pytest.mark.parametrize(
    ("parties", "degree", "threshold"),
    [
        *((3, 2, 3), (4, 3, 3), (10, 9, 7), (64, 63, 43)),  # all are neighbours
        *((100, 32, 22), (200, 56, 39), (500, 82, 57), (1000, 96, 67)),  # by Google's rule
    ],
)
def test_parameters(parties, degree, threshold):
    assert parameters(parties) == Parameters(degree, threshold)


def test_two_parties_are_too_few():
    with pytest.raises(ValueError, match="needs 3"):
        parameters(2)


@pytest.mark.parametrize("parties", [3, 64, 65, 100, 131])
def test_neighbours_are_mutual_and_each_has_the_degree(parties):
    slots = range(5, 5 + 2 * parties, 2)
    found = neighbours(slots, b"digest")
    degree = parameters(parties).degree
    assert sorted(found) == list(slots)
    for slot, near in found.items():
        assert len(set(near)) == len(near) == degree
        assert slot not in near
        assert all(slot in found[other] for other in near)


def test_another_attempt_has_other_neighbours():
    assert neighbours(range(100), b"one") != neighbours(range(100), b"two")
    assert neighbours(range(100), b"one") == neighbours(range(99, -1, -1), b"one")


@pytest.mark.parametrize("parties", range(65, 400, 45))
def test_two_halves_of_a_neighbourhood_never_hold_both_secrets(parties):
    """With a tenth dishonest, a coordinator needs more of them than it can expect to have."""
    found = parameters(parties)
    assert found.degree < 2 * found.threshold
