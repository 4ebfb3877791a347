"""The norm bound: what the coordinator counts of an update, and what an honest client sends."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from serverless_fl.domain.errors import BadWeights
from serverless_fl.domain.experiment import WEIGHTS
from serverless_fl.privacy.norm_bound import NormBound
from serverless_fl.privacy.sending import Sending
from serverless_fl.weights.encodings import UPDATE_ENCODINGS

STEPS = np.array([3], np.int64)


def bound(most, action="clip"):
    """The settings of an experiment as a mechanism sees them."""
    return SimpleNamespace(max_update_norm=most, norm_action=action)


def share(norm, most, action="clip"):
    return NormBound().share(norm, bound(most, action))


def sent_of(base, trained, most, action="clip", sending=None):
    return NormBound().before_upload(base, trained, sending or Sending(), bound(most, action))


def file(values, dtype=np.float32, steps=STEPS):
    wide = np.asarray(values, np.float64)
    return safetensors.numpy.save(
        {"a": wide[:2].astype(dtype), "b": wide[2:].astype(dtype), "steps": steps}
    )


def test_an_update_within_the_bound_counts_whole_and_one_beyond_it_in_part():
    assert share(2.0, 2.0) == 1.0
    assert share(8.0, 2.0) == 0.25


@pytest.mark.parametrize(("action", "norm"), [("reject", 2.1), ("clip", math.inf)])
def test_an_update_that_must_not_count_is_refused(action, norm):
    with pytest.raises(BadWeights, match="differs from the base model") as refused:
        share(norm, 2.0, action)
    assert refused.value.code == "norm-exceeded"


def test_without_a_mechanism_an_update_leaves_as_it_is():
    assert sent_of(file([0] * 5), b"any", None, "reject") == b"any"
    assert share(1e9, None) == 1.0
    assert not NormBound().needs_norm(bound(None))


def test_where_the_coordinator_scales_down_the_client_sends_all():
    base, far = file([0.0] * 5), file([9.0] * 5)
    assert sent_of(base, far, 1.0) == far


def test_a_short_update_is_sent_as_it_is():
    base, near = file([0.0] * 5), file([0.1] * 5)
    assert sent_of(base, near, 1.0, "reject") == near


def test_a_long_update_is_shortened_in_its_direction_and_whole_numbers_stay():
    base, far = file([1.0] * 5), file([1.0, 4.0, 1.0, 5.0, 1.0], steps=STEPS * 7)
    sent = sent_of(base, far, 2.5, "reject")
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
def test_what_a_client_sends_is_never_refused(before, after, most, encoding, dtype, seed):
    """Neither the file's rounding nor the random rounding of int8 takes it beyond the bound."""
    sending, base = Sending(encoding, seed), file(before, dtype)
    sent = sent_of(base, file(after, dtype), most, "reject", sending)
    assert share(sending.distance(base, sent), most, "reject") == 1.0


def test_weights_that_are_not_finite_are_sent_and_the_coordinator_says_so():
    base, broken = file([0.0] * 5), file([math.nan] * 5)
    sent = sent_of(base, broken, 1.0, "reject")
    assert np.isnan(safetensors.numpy.load(sent)["a"]).all()
