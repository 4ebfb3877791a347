"""The norm bound: what the coordinator counts of an update, and what an honest client sends."""

from __future__ import annotations

import math

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from serverless_fl.domain.errors import BadWeights
from serverless_fl.domain.experiment import WEIGHTS
from serverless_fl.privacy import Mechanism
from serverless_fl.privacy.norm_bound import NormBound
from serverless_fl.privacy.sending import Sending
from serverless_fl.weights.encodings import UPDATE_ENCODINGS

STEPS = np.array([3], np.int64)


def file(values, dtype=np.float32, steps=STEPS):
    wide = np.asarray(values, np.float64)
    return safetensors.numpy.save(
        {"a": wide[:2].astype(dtype), "b": wide[2:].astype(dtype), "steps": steps}
    )


def test_an_update_within_the_bound_counts_whole_and_one_beyond_it_in_part():
    assert NormBound(2.0).share(2.0) == 1.0
    assert NormBound(2.0).share(8.0) == 0.25


@pytest.mark.parametrize(("action", "norm"), [("reject", 2.1), ("clip", math.inf)])
def test_an_update_that_must_not_count_is_refused(action, norm):
    with pytest.raises(BadWeights, match="differs from the base model") as refused:
        NormBound(2.0, action).share(norm)
    assert refused.value.code == "norm-exceeded"


def test_without_a_mechanism_an_update_leaves_as_it_is():
    assert Mechanism().before_upload(file([0] * 5), b"any", Sending()) == b"any"
    assert Mechanism().share(1e9) == 1.0


def test_where_the_coordinator_scales_down_the_client_sends_all():
    base, far = file([0.0] * 5), file([9.0] * 5)
    assert NormBound(1.0).before_upload(base, far, Sending()) == far


def test_a_short_update_is_sent_as_it_is():
    base, near = file([0.0] * 5), file([0.1] * 5)
    assert NormBound(1.0, "reject").before_upload(base, near, Sending()) == near


def test_a_long_update_is_shortened_in_its_direction_and_whole_numbers_stay():
    base, far = file([1.0] * 5), file([1.0, 4.0, 1.0, 5.0, 1.0], steps=STEPS * 7)
    sent = NormBound(2.5, "reject").before_upload(base, far, Sending())
    found = safetensors.numpy.load(sent)
    assert found["steps"].tolist() == [21]
    assert found["a"] == pytest.approx([1.0, 2.5], abs=1e-3)
    assert found["b"] == pytest.approx([1.0, 3.0, 1.0], abs=1e-3)


finite = st.floats(-1e3, 1e3, width=32)


@given(
    st.lists(finite, min_size=5, max_size=5),
    st.lists(finite, min_size=5, max_size=5),
    st.floats(1e-6, 1e4),
    st.sampled_from([WEIGHTS, *UPDATE_ENCODINGS]),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.integers(0, 9),
)
def test_what_a_client_sends_is_never_refused(before, after, bound, encoding, dtype, seed):
    """Neither the file's rounding nor the random rounding of int8 takes it beyond the bound."""
    mechanism, sending = NormBound(bound, "reject"), Sending(encoding, seed)
    base = file(before, dtype)
    sent = mechanism.before_upload(base, file(after, dtype), sending)
    assert mechanism.share(sending.distance(base, sent)) == 1.0


def test_weights_that_are_not_finite_are_sent_and_the_coordinator_says_so():
    base, broken = file([0.0] * 5), file([math.nan] * 5)
    sent = NormBound(1.0, "reject").before_upload(base, broken, Sending())
    assert np.isnan(safetensors.numpy.load(sent)["a"]).all()
