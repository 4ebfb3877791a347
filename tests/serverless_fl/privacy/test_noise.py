"""The noise: normal by law, the same for whoever has the key, and independent of the cut."""

from __future__ import annotations

import hashlib
import statistics
from itertools import pairwise

import numpy as np
import pytest

from serverless_fl.privacy.noise import BLOCK, Noise, log, normal, round_key
from serverless_fl.weights.header import TensorSpec
from serverless_fl.weights.spans import Piece

KEY = round_key(b"\x07" * 32, 3)
COUNT = 3 * BLOCK + 17
TENSOR = TensorSpec("w", "F32", (COUNT,), 0, 4 * COUNT)


def drawn(first=0, last=COUNT, key=KEY, deviation=1.0, tensor=TENSOR):
    return Noise(key, deviation).of(Piece(tensor, first, last))


def test_it_is_the_inverse_of_the_normal_distribution():
    bits = np.frombuffer(hashlib.shake_256(b"bits").digest(8000), "<u8")
    law = statistics.NormalDist()
    for word, value in zip(bits.tolist(), normal(bits).tolist(), strict=True):
        p = ((word >> 1) + 0.5) * 2.0**-64
        expected = law.inv_cdf(p)
        assert value == pytest.approx(expected if word & 1 else -expected, rel=1e-13, abs=1e-15)


def test_the_rarest_bits_give_the_largest_numbers():
    ends = np.array([0, 1, 2**64 - 2, 2**64 - 1], np.uint64)
    assert normal(ends).tolist() == pytest.approx([9.1552938, -9.1552938, 0, 0], abs=1e-6)


def test_logarithms_are_those_of_the_library():
    values = np.array([2.0**-65, 1e-9, 0.0749, 0.5, 0.7071067811865476, 1.0, 1.5])
    assert log(values) == pytest.approx(np.log(values), rel=1e-15)


def test_its_deviation_and_mean_are_right_over_many_draws():
    found = drawn(deviation=2.0)
    assert abs(found.std() / 2 - 1) < 4 / (2 * COUNT) ** 0.5
    assert abs(found.mean()) < 4 * 2 / COUNT**0.5
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 4 / COUNT**0.5


@pytest.mark.parametrize("cuts", [(1,), (BLOCK,), (5, BLOCK - 1, BLOCK + 1, 2 * BLOCK)])
def test_an_element_has_the_same_noise_wherever_the_tensor_is_cut(cuts):
    places = [0, *cuts, COUNT]
    pieces = [drawn(a, b) for a, b in pairwise(places)]
    assert (np.concatenate(pieces) == drawn()).all()


def test_another_round_secret_or_tensor_has_other_noise():
    other = TensorSpec("v", "F32", (COUNT,), 0, 4 * COUNT)
    keys = [KEY, round_key(b"\x07" * 32, 4), round_key(b"\x08" * 32, 3)]
    found = [drawn(key=key) for key in keys] + [drawn(tensor=other)]
    for n, a in enumerate(found):
        for b in found[:n]:
            assert abs(np.corrcoef(a, b)[0, 1]) < 4 / COUNT**0.5
    words = {Noise(key, 1.0).of_word(word) for key in keys for word in ("count", "w")}
    assert len(words) == 6


def test_the_bits_are_those_of_this_release():
    """Models on record can be recomputed by later releases only if this stays."""
    digest = hashlib.sha256(drawn().tobytes()).hexdigest()
    assert digest == "bc0b7063994892e43bc868ebcb7c79c573bf646d3be3c4b4084e08c45c61ea89"
