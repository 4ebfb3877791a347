"""Shamir's secret sharing (CACM 22, 1979) over the field of 2^521 - 1.

A secret of up to 64 bytes is the value at 0 of a random polynomial; a share is its value at another
place. `threshold` shares give the secret back, fewer say nothing about it. A share says its place
nowhere: who hands it in is known.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from itertools import accumulate, combinations
from math import prod

PRIME = 2**521 - 1
SHARE_BYTES = 66
_MOST_WRONG = 2  # shares of a secret: of 64 that takes a thousand tries, half a second


class BadShares(ValueError):
    """Shares that are too few, or of which one is not of the same secret."""


def split(
    secret: bytes,
    threshold: int,
    places: Collection[int],
    draw: Callable[[int], int] = secrets.randbelow,
) -> dict[int, bytes]:
    """Split a secret into a share for each place. Places are whole numbers from 1 on.

    `draw(limit)` gives a uniform number below the limit. Raises ValueError for fewer places than
    the threshold, for a place that is below 1, or twice there, and for a longer secret.
    """
    if not 1 <= threshold <= len(set(places)) == len(places) or min(places) < 1:
        raise ValueError(f"{len(places)} places cannot hold {threshold} shares each")
    if len(secret) > SHARE_BYTES - 2:
        raise ValueError(f"a secret of {len(secret)} bytes: at most {SHARE_BYTES - 2}")
    highest_first = [draw(PRIME) for _ in range(threshold - 1)]
    highest_first.append(int.from_bytes(secret, "big"))
    return {place: _value(highest_first, place).to_bytes(SHARE_BYTES, "big") for place in places}


def _value(highest_first: list[int], place: int) -> int:
    """The value of a polynomial, by Horner's rule."""
    value = 0
    for coefficient in highest_first:
        value = (value * place + coefficient) % PRIME
    return value


def combine(shares: Mapping[int, bytes], threshold: int, size: int = 32) -> bytes:
    """Give the secret of `size` bytes back, from `threshold` of the shares by their places.

    Raises BadShares if they are too few, or if they give no secret of this size. That is all that
    tells a wrong share, and it misses one in 2^(521 - 8 size).
    """
    if len(shares) < threshold:
        raise BadShares(f"{len(shares)} shares of the {threshold} that a secret needs")
    places = tuple(sorted(shares)[:threshold])
    secret = 0
    for place, factor in zip(places, _factors(places), strict=True):
        secret += factor * int.from_bytes(shares[place], "big")
    secret %= PRIME
    if secret >= 1 << (8 * size):
        raise BadShares("the shares are not of one secret")
    return secret.to_bytes(size, "big")


def combine_without_wrong(
    shares: Mapping[int, bytes],
    threshold: int,
    accept: Callable[[bytes], bool] = lambda secret: True,
) -> tuple[bytes, frozenset[int]]:
    """Give the secret of 32 bytes back, and the places of shares that are not of it.

    It finds up to two wrong shares, as far as there are more shares than the threshold; `accept`
    tells the secret from others, where more is known of it than its size. Places that were not
    needed are not looked at. Raises BadShares.
    """
    places = sorted(shares)
    fault = BadShares(f"{len(shares)} shares of the {threshold} that a secret needs")
    for count in range(min(_MOST_WRONG, max(0, len(places) - threshold)) + 1):
        for out in combinations(places[: threshold + count], count):
            try:
                rest = {place: shares[place] for place in places if place not in out}
                secret = combine(rest, threshold)
            except BadShares as error:
                fault = error
                continue
            if accept(secret):
                return secret, frozenset(out)
            fault = BadShares("the shares are of another secret")
    raise fault


@lru_cache(64)  # in one round the same holders hand in shares of many secrets
def _factors(places: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's factors of the values at these places, for the value at 0.

    The factor of a place is the product of all places over the place times its distances to the
    others. One inverse is computed for all of them, because it takes as long as a hundred products.
    """
    unders = [
        place * prod(other - place for other in places if other != place) % PRIME
        for place in places
    ]
    through = list(accumulate(unders, lambda one, other: one * other % PRIME, initial=1))
    inverse, over = pow(through.pop(), -1, PRIME), prod(places) % PRIME
    factors = []
    for under, before in zip(reversed(unders), reversed(through), strict=True):
        factors.append(over * inverse * before % PRIME)
        inverse = inverse * under % PRIME
    return tuple(reversed(factors))
