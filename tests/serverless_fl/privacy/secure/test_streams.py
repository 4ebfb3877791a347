"""Streams of words: the vectors of SP 800-38A, any place alone, and uniform bytes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serverless_fl.privacy.secure.streams import COUNTS, Stream, apply_streams

KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
OUTPUT = (  # F.5.5 of SP 800-38A: the output blocks of CTR-AES256
    "0bdf7df1591716335e9a8b15c860c5025a6e699d536119065433863c8f657b94"
    "1bc12c9c01610d5d0d8bd6a3378eca622956e1c8693536b1bee99c73a31576b6"
)


def test_words_are_those_of_aes_in_counter_mode():
    words = np.zeros(32, np.uint16)
    block = 0xF8F9FAFBFCFDFEFF
    apply_streams(words, [Stream(KEY, 1)], first=block * 8, sequence=0xF0F1F2F3F4F5F6F7)
    assert words.astype("<u2").tobytes().hex() == OUTPUT


@settings(max_examples=30)
@given(
    dtype=st.sampled_from([np.uint16, np.uint32, np.uint64]),
    cuts=st.lists(st.integers(0, 300_000), max_size=4),
)
def test_a_span_is_masked_alone(dtype, cuts):
    size, streams = 300_000, [Stream(KEY, 1), Stream(b"k" * 32, -1)]
    whole, pieces = np.arange(size, dtype=dtype), np.arange(size, dtype=dtype)
    apply_streams(whole, streams)
    places = [0, *sorted(cuts), size]
    for start, stop in itertools.pairwise(places):
        apply_streams(pieces[start:stop], streams, first=start)
    assert (whole == pieces).all()


def test_what_is_added_is_taken_off_again():
    words = np.arange(1000, dtype=np.uint32)
    apply_streams(words, [Stream(KEY, 1)], sequence=COUNTS)
    assert (words != np.arange(1000)).any()
    apply_streams(words, [Stream(KEY, -1)], sequence=COUNTS)
    assert (words == np.arange(1000)).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_masked_bytes_are_uniform(dtype):
    """Chi-squared of 256 values with 255 degrees of freedom: beyond 400 in one of 10^8 tries."""
    words = np.full(1 << 17, 3, dtype)
    apply_streams(words, [Stream(KEY, 1)])
    counts = np.bincount(words.view(np.uint8), minlength=256)
    expected = words.nbytes / 256
    assert ((counts - expected) ** 2 / expected).sum() < 400
