"""Random numbers of a split: functions of a seed and a purpose, the same on every machine.

Keyed BLAKE2b gives the bits, as in `serverless_fl.domain.draws`. NumPy's generators may give other
numbers in its next version, and the logarithms of two machines may differ in the last bit, so both
are written here with additions, multiplications and divisions, which IEEE 754 rounds alike
everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from hashlib import blake2b
from itertools import pairwise

import numpy as np

_LN2 = 0.6931471805599453
_WORDS = 8  # of 64 bits, in a digest


class Stream:
    """Numbers one after another; two streams of other seeds or purposes are independent."""

    def __init__(self, seed: int, purpose: str) -> None:
        self._state = blake2b(purpose.encode(), digest_size=8 * _WORDS, key=str(seed).encode())
        self._place = 0
        self._floats = self._endless()

    def bits(self, count: int) -> np.ndarray:
        """`count` numbers of 64 bits, uint64."""
        digests = []
        for _ in range(-(-count // _WORDS)):
            state = self._state.copy()
            state.update(b" %d" % self._place)
            self._place += 1
            digests.append(state.digest())
        return np.frombuffer(b"".join(digests), ">u8")[:count].astype(np.uint64)

    def permutation(self, count: int) -> np.ndarray:
        """The numbers below `count` in a random order, int64."""
        return np.argsort(self.bits(count), kind="stable")

    def uniform(self) -> float:
        """A number above 0 and below 1, of 52 bits."""
        return next(self._floats)

    def normal(self) -> float:
        """A number of mean 0 and deviation 1: Marsaglia's polar method, SIAM Review 6, 1964."""
        while True:
            u, v = 2 * self.uniform() - 1, 2 * self.uniform() - 1
            s = u * u + v * v
            if 0 < s < 1:
                return u * math.sqrt(-2 * ln(s) / s)

    def log_gamma(self, shape: float) -> float:
        """The logarithm of a gamma variate of this shape and scale 1.

        Marsaglia and Tsang, "A simple method for generating gamma variables", ACM TOMS 26, 2000. A
        variate of a small shape is below all floating-point numbers; its logarithm is not.
        """
        if shape < 1:
            return self.log_gamma(shape + 1) + ln(self.uniform()) / shape
        d = shape - 1 / 3
        c = 1 / math.sqrt(9 * d)
        while True:
            x = self.normal()
            v = (1 + c * x) ** 3 if 1 + c * x > 0 else 0.0
            if v > 0 and ln(self.uniform()) < x * x / 2 + d - d * v + d * ln(v):
                return ln(d) + ln(v)

    def dirichlet(self, shapes: list[float]) -> list[float]:
        """Draw shares that sum to 1 from a Dirichlet distribution with the given shapes."""
        return shares([self.log_gamma(shape) for shape in shapes])

    def _endless(self) -> Iterator[float]:
        while True:
            for word in (self.bits(256) >> np.uint64(12)).tolist():
                yield (word + 0.5) * 2.0**-52


def shares(logarithms: list[float]) -> list[float]:
    """Shares that sum to 1, in proportion to the numbers of these logarithms."""
    most = max(logarithms)
    parts = [exp(one - most) for one in logarithms]
    total = math.fsum(parts)
    return [part / total for part in parts]


def ln(x: float) -> float:
    """The natural logarithm of x > 0, within a few units of the last place."""
    mantissa, exponent = math.frexp(x)  # from 1/2 to below 1
    if mantissa < 0.7071067811865476:
        mantissa, exponent = mantissa * 2, exponent - 1
    z = (mantissa - 1) / (mantissa + 1)  # ln m = 2 artanh z, |z| < 0.172
    square, power, total = z * z, z, 0.0
    for n in range(1, 24, 2):
        total += power / n
        power *= square
    return exponent * _LN2 + 2 * total


def exp(x: float) -> float:
    """The exponential of x <= 0, within a part in 10**13 of it; 0 where it is below 1e-299."""
    if x < -690:
        return 0.0
    twos = math.floor(x / _LN2 + 0.5)
    rest = x - twos * _LN2
    total = term = 1.0
    for n in range(1, 20):
        term *= rest / n
        total += term
    return math.ldexp(total, twos)


def cut(values: np.ndarray, parts: list[float]) -> list[np.ndarray]:
    """Cut an array into pieces whose sizes are these shares of it, each within one of its share."""
    bounds, total = [0], 0.0
    for share in parts:
        total += share
        bounds.append(min(len(values), math.floor(total * len(values) + 0.5)))
    bounds[-1] = len(values)
    return [values[a:b] for a, b in pairwise(bounds)]
