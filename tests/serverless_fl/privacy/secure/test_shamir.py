"""Shamir's secret sharing: by hand on a line, and for any secret, threshold and shares."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serverless_fl.privacy.secure import shamir
from serverless_fl.privacy.secure.shamir import BadShares, combine, split


def test_shares_lie_on_a_line_through_the_secret():
    """5 + 3x at 1, 2 and 4; two of these give the 5 back."""
    shares = split(b"\x05", 2, [1, 2, 4], draw=lambda limit: 3)
    assert {place: int.from_bytes(share) for place, share in shares.items()} == {1: 8, 2: 11, 4: 17}
    for kept in ({1, 2}, {2, 4}, {1, 4}):
        assert combine({p: shares[p] for p in kept}, 2, size=1) == b"\x05"


@settings(max_examples=25)
@given(
    secret=st.binary(min_size=32, max_size=32),
    places=st.sets(st.integers(1, 1000), min_size=3, max_size=9),
    data=st.data(),
)
def test_a_threshold_of_shares_gives_the_secret_back(secret, places, data):
    threshold = data.draw(st.integers(1, len(places)))
    shares = split(secret, threshold, sorted(places))
    assert {len(share) for share in shares.values()} == {shamir.SHARE_BYTES}
    kept = data.draw(st.permutations(sorted(places)))[:threshold]
    assert combine({place: shares[place] for place in kept}, threshold) == secret


def test_too_few_shares_and_wrong_ones_give_nothing():
    secret = b"s" * 32
    shares = split(secret, 3, [1, 2, 3, 4])
    with pytest.raises(BadShares, match="2 shares of the 3"):
        combine({1: shares[1], 2: shares[2]}, 3)
    with pytest.raises(BadShares, match="not of one secret"):
        combine({1: shares[1], 2: shares[2], 3: split(secret, 3, [3, 4, 5])[3]}, 3)


def test_fewer_shares_than_the_threshold_fit_every_secret():
    """Of a threshold of 2, any one share is that of any secret, for some slope."""
    share = int.from_bytes(split(b"\x07", 2, [1, 2], draw=lambda limit: 11)[1])
    for other in (0, 1, 200):
        slope = (share - other) % shamir.PRIME
        again = split(bytes([other]), 2, [1, 2], draw=lambda limit, s=slope: s)
        assert int.from_bytes(again[1]) == share


@pytest.mark.parametrize(
    ("secret", "threshold", "places"),
    [
        (b"s", 3, [1, 2]),
        (b"s", 0, [1, 2]),
        (b"s", 2, [0, 1]),
        (b"s", 2, [1, 1]),
        (bytes(65), 1, [1]),
    ],
)
def test_what_cannot_be_split_is_refused(secret, threshold, places):
    with pytest.raises(ValueError):
        split(secret, threshold, places)


@pytest.mark.parametrize("wrong", [(), (2,), (1, 4), (5,), (1, 2, 3)])
def test_wrong_shares_are_told_where_there_are_more_than_the_threshold(wrong):
    """Of six shares three suffice: up to two wrong ones among those that are looked at are told."""
    secret = bytes(range(32))
    shares = shamir.split(secret, 3, range(1, 7))
    lies = dict.fromkeys(wrong, b"\x01" * shamir.SHARE_BYTES)
    if len(wrong) > 2:
        with pytest.raises(shamir.BadShares):
            shamir.combine_without_wrong(shares | lies, 3)
        return
    found, out = shamir.combine_without_wrong(shares | lies, 3)
    assert found == secret
    assert out == set(wrong) - {5}  # which was not needed


def test_a_secret_that_is_not_accepted_is_looked_for_without_each_share():
    shares = shamir.split(b"\7" * 32, 2, [1, 2, 3])
    other = shamir.split(b"\6" * 32, 2, [1, 2, 3])
    found, out = shamir.combine_without_wrong(
        shares | {1: other[1]}, 2, lambda secret: secret == b"\7" * 32
    )
    assert (found, out) == (b"\7" * 32, {1})
    with pytest.raises(shamir.BadShares, match=r"of (another|one) secret"):
        shamir.combine_without_wrong(other, 2, lambda secret: secret == b"\7" * 32)
