"""Gaussian noise that whoever has a secret can compute again, and nobody else can foretell.

The random bits of an element are those of SHAKE-256 (FIPS 202) over a key, the name of the
element's tensor and its place there. A key is derived from the experiment's secret and the round.
So the noise does not depend on how a model is cut, a step that is repeated after a crash adds the
same noise, and `verify` recomputes it.

Wichura's inverse of the normal distribution (AS 241, 1988) turns 64 bits into one number. It is
evaluated with +, -, *, / and square roots only, which give the same bits on every machine, unlike
the logarithms and cosines of mathematical libraries. The numbers are float64, and not drawn from a
discrete distribution: Mironov ("On significance of the least significant bits", 2012) shows what
that may leak (docs/privacy.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serverless_fl.domain.derivation import derive
from serverless_fl.weights.spans import Piece

BLOCK = 4096  # elements of one call of SHAKE-256

_CENTRE = (
    (
        *(2509.0809287301226727, 33430.575583588128105, 67265.770927008700853),
        *(45921.953931549871457, 13731.693765509461125, 1971.5909503065514427),
        *(133.14166789178437745, 3.387132872796366608),
    ),
    (
        *(5226.495278852854561, 28729.085735721942674, 39307.89580009271061),
        *(21213.794301586595867, 5394.1960214247511077, 687.1870074920579083),
        *(42.313330701600911252, 1.0),
    ),
)
_TAIL = (
    (
        *(7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177),
        *(1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055),
        *(4.6303378461565452959, 1.42343711074968357734),
    ),
    (
        *(1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966),
        *(0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494),
        *(2.05319162663775882187, 1.0),
    ),
)
_FAR_TAIL = (
    (
        *(2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386),
        *(0.026532189526576123093, 0.29656057182850489123, 1.7848265399172913358),
        *(5.4637849111641143699, 6.6579046435011037772),
    ),
    (
        *(2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5),
        *(7.868691311456132591e-4, 0.0148753612908506148525, 0.13692988092273580531),
        *(0.59983220655588793769, 1.0),
    ),
)


@dataclass(frozen=True)
class Noise:
    """The noise of one round: independent normal numbers of a standard deviation, by a key.

    The noise of the keys `less`, which earlier rounds have added, is taken off.
    """

    key: bytes
    deviation: float
    less: tuple[bytes, ...] = ()

    def of(self, elements: Piece) -> np.ndarray:
        """Give the noise of some elements of a tensor, float64 [elements]."""
        found = _of(self.key, elements)
        for key in self.less:
            found -= _of(key, elements)
        return self.deviation * found

    def of_word(self, word: str) -> float:
        """Give a number of deviation 1 that belongs to a word and to no tensor's element."""
        bits = derive(self.key, b"word", word.encode(), size=8)
        return float(normal(np.frombuffer(bits, "<u8"))[0])


def round_key(secret: bytes, number: int) -> bytes:
    """Give the key of a round's noise."""
    return derive(secret, b"round", str(number).encode())


def normal(bits: np.ndarray) -> np.ndarray:
    """Make standard normal numbers of random bits, uint64 [elements] to float64 [elements]."""
    # The lowest bit is the sign, the others a probability above 0 and at most 1/2.
    p = ((bits >> np.uint64(1)).astype(np.float64) + 0.5) * 2.0**-64
    q = 0.5 - p
    r = 0.180625 - q * q
    found = q * _ratio(_CENTRE, r)
    outside = np.flatnonzero(q > 0.425)
    root = np.sqrt(-log(p[outside]))
    far = root > 5
    found[outside] = np.where(far, _ratio(_FAR_TAIL, root - 5), _ratio(_TAIL, root - 1.6))
    return np.asarray(np.where(bits & np.uint64(1), -found, found))


def log(values: np.ndarray) -> np.ndarray:
    """Give natural logarithms of positive numbers, the same bits on every machine."""
    fraction, power = np.frexp(values)
    low = fraction < 0.7071067811865476
    fraction, power = np.where(low, 2 * fraction, fraction), power - low
    s = (fraction - 1) / (fraction + 1)
    square, total = s * s, np.zeros_like(s)
    for n in range(21, 0, -2):
        total = total * square + 1 / n
    return np.asarray(power * 0.6931471805599453 + 2 * s * total)


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], r: np.ndarray) -> np.ndarray:
    above, below = (np.zeros_like(r) for _ in coefficients)
    for a, b in zip(*coefficients, strict=True):
        above, below = above * r + a, below * r + b
    return np.asarray(above / below)


def _of(key: bytes, elements: Piece) -> np.ndarray:
    """Give the noise of deviation 1 of some elements of a tensor, float64 [elements]."""
    first, last = elements.first // BLOCK, -(-elements.last // BLOCK)
    bits = b"".join(_bits(key, elements.tensor.name, n) for n in range(first, last))
    own = slice(elements.first - first * BLOCK, elements.last - first * BLOCK)
    return normal(np.frombuffer(bits, "<u8")[own])


def _bits(key: bytes, tensor: str, block: int) -> bytes:
    return derive(key, b"tensor", tensor.encode(), block, size=8 * BLOCK)
