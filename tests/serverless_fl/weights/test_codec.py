"""Our reader of safetensors against the library's writer, and against strangers."""

import json
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from serverless_fl.domain.errors import BadWeights
from serverless_fl.weights import codec, spans
from serverless_fl.weights.check import UpdateCheck
from serverless_fl.weights.header import (
    MAX_DIMENSIONS,
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    NUMPY_TYPES,
    header_length,
    layout_of,
    read_header,
    write_header,
)
from tests.support.raw_file import file_of


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


WEIGHTS = {
    "layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "layer.bias": np.array([0.5, -1.25], np.float64),
    "half": np.array([1.5], np.float16),
    "steps": np.array(7, np.int64),
    "mask": np.array([True, False, True]),
    "empty": np.zeros((0, 4), np.float32),
}


def check(data, expected=None, chunk=7):
    judge = UpdateCheck(expected)
    for start in range(0, len(data), chunk):
        judge.feed(data[start : start + chunk])
    return judge.finish()


def test_reads_what_the_library_wrote():
    data = safetensors.numpy.save(WEIGHTS, {"who": "we"})
    layout = layout_of(data)
    assert layout.metadata == {"who": "we"}
    assert {t.name: t.shape for t in layout.tensors} == {n: v.shape for n, v in WEIGHTS.items()}
    for name, values in codec.arrays(layout, data):
        np.testing.assert_array_equal(values, WEIGHTS[name].reshape(-1))
        assert values.dtype == WEIGHTS[name].dtype


def test_the_library_reads_a_header_that_we_wrote():
    kinds = [("a \u20ac", "F64", [1, 2]), ("\u00e9", "U8", []), ("none", "I16", [0, 3])]
    data = write_header(kinds, {"who": "we \u20ac"}) + bytes(17)
    layout = layout_of(data)
    assert [(t.name, *t.kind) for t in layout.tensors] == [(n, d, tuple(s)) for n, d, s in kinds]
    assert layout.metadata == {"who": "we \u20ac"}
    assert len(layout.header) % 8 == 0
    found = safetensors.numpy.load(data)
    assert {n: (v.dtype.str, v.shape) for n, v in found.items()} == {
        n: (np.dtype(NUMPY_TYPES[d]).str, tuple(s)) for n, d, s in kinds
    }


def test_writes_what_the_library_reads_and_keeps_the_header():
    data = safetensors.numpy.save(WEIGHTS, {"who": "we"})
    layout = layout_of(data)
    doubled = {name: values * 2 for name, values in codec.arrays(layout, data)}
    written = layout.header + codec.pack(spans.whole(layout), doubled)
    assert layout_of(written).header == layout.header
    for name, values in safetensors.numpy.load(written).items():
        np.testing.assert_array_equal(values, (WEIGHTS[name] * 2).astype(WEIGHTS[name].dtype))


@given(st.lists(st.floats(-(2.0**120), 2.0**120, width=32), min_size=1, max_size=20))
def test_bfloat16_is_read_exactly_and_rounded_to_nearest(values):
    exact = np.array(values, np.float32)
    layout = read_header(file_of({"b": entry("BF16", [len(values)], [0, 2 * len(values)])}))
    data = layout.header + codec.pack(spans.whole(layout), {"b": exact})
    ((_, back),) = codec.arrays(layout, data)
    # bfloat16 keeps eight bits of the significand: half a unit in the last place is 2**-9.
    normal = np.abs(exact) > 1e-37
    np.testing.assert_allclose(back[normal], exact[normal], rtol=2**-8)
    again = layout.header + codec.pack(spans.whole(layout), {"b": back})
    assert again == data


@given(
    st.integers(0x0080, 0x7F7E),
    st.sampled_from([0.0, 2.0**-52, 2.0**-40, 2.0**-25, 2.0**-24]),
    st.sampled_from([-1, 1]),
    st.sampled_from([-1, 1]),
)
def test_a_float64_beside_the_middle_of_two_bfloat16_is_rounded_once(bits, beside, side, sign):
    """By way of float32 it would become the middle itself, and then go to the even one."""
    low, high = (np.array([b << 16], np.uint32).view(np.float32)[0] for b in (bits, bits + 1))
    middle = (float(low) + float(high)) / 2
    value = np.array([sign * middle * (1 + side * beside)])
    layout = read_header(file_of({"b": entry("BF16", [1], [0, 2])}))
    data = layout.header + codec.pack(spans.whole(layout), {"b": value})
    ((_, back),) = codec.arrays(layout, data)
    even = low if bits % 2 == 0 else high
    nearest = even if beside == 0 else (high if side > 0 else low)
    assert back[0] == sign * nearest


@pytest.mark.parametrize("chunk", [1, 3, 8, 64, 10**6])
def test_a_sound_file_passes_in_whatever_pieces_it_comes(chunk):
    data = safetensors.numpy.save(WEIGHTS)
    assert check(data, layout_of(data), chunk).total_bytes == len(data)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 20, -9, -1])
def test_a_truncated_file_is_refused(cut):
    data = safetensors.numpy.save(WEIGHTS)
    with pytest.raises(BadWeights) as caught:
        check(data[:cut])
    assert caught.value.code == "malformed-weights"


def test_bytes_behind_the_end_are_refused():
    data = safetensors.numpy.save(WEIGHTS)
    with pytest.raises(BadWeights):
        check(data + b"\0")
    with pytest.raises(BadWeights, match=f"announces {len(data)} bytes"):
        layout_of(data + b"\0")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_one_value_that_is_not_finite_is_enough(bad, dtype, chunk):
    values = np.ones(100, dtype)
    values[63] = bad
    with pytest.raises(BadWeights) as caught:
        check(safetensors.numpy.save({"w": values}), chunk=chunk)
    assert caught.value.code == "non-finite"


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0])
def test_bfloat16_infinities_and_nan_are_refused(bits):
    data = file_of({"b": entry("BF16", [1], [0, 2])}, struct.pack("<H", bits))
    with pytest.raises(BadWeights) as caught:
        check(data)
    assert caught.value.code == "non-finite"


@pytest.mark.parametrize(
    "other",
    [
        {"w": np.zeros(3, np.float32)},
        {"w": np.zeros((2, 1), np.float32)},
        {"w": np.zeros(2, np.float64)},
        {"v": np.zeros(2, np.float32)},
        {"w": np.zeros(2, np.float32), "v": np.zeros(1, np.float32)},
        {},
    ],
)
def test_other_tensors_than_the_models_are_a_layout_mismatch(other):
    model = layout_of(safetensors.numpy.save({"w": np.zeros(2, np.float32)}))
    with pytest.raises(BadWeights) as caught:
        check(safetensors.numpy.save(other), model)
    assert caught.value.code == "layout-mismatch"


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b"\xff\xfe{}",
        b'{"w": 1}',
        b'{"w": {"dtype": "F32"}}',
        b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, '
        b'"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
        {"w": entry(dtype="F8")},
        {"w": entry(shape=[-2])},
        {"w": entry(shape=[2.0])},
        {"w": entry(shape=[1] * 17 + [2])},
        {"w": entry(shape=[2**62, 2**62])},
        {"w": entry(offsets=[8, 16])},
        {"w": entry(offsets=[0, 2**63])},
        {"w": entry(offsets=[-8, 0])},
        {"w": entry(), "v": entry()},
        {"w": entry(), "v": entry(offsets=[4, 12])},
        {"w": entry(), "v": entry(offsets=[16, 24])},
        {"w": entry(), "v": entry(offsets=[12, 20])},
        {"w": entry(shape=[True, 2])},
        {"w": entry(offsets=[False, 8])},
        {"w": entry("U8", [1], [0, True])},
        {"w": entry(offsets=[0, 4])},
        {"w": entry(offsets=[0, 12])},
        {"__metadata__": {"a": 1}},
        {"__metadata__": []},
        b'{"w": ' + b"[" * 100_000 + b"}",
    ],
)
def test_a_lying_header_is_refused_however_much_data_it_has(header):
    """Or it might be refused for its short body alone, whatever the header says."""
    for size in (0, 1, 4, 8, 12, 16, 20, 24, 64):
        with pytest.raises(BadWeights) as caught:
            check(file_of(header, b"\0" * size))
        assert caught.value.code == "malformed-weights"


def test_the_header_that_those_differ_from_is_taken():
    assert check(file_of({"w": entry()}, b"\0" * 8)).total_bytes
    assert check(file_of({"w": entry(), "v": entry(offsets=[8, 16])}, b"\0" * 16)).total_bytes


def test_what_is_exactly_at_a_bound_is_taken_and_one_more_is_not():
    padded = json.dumps({"w": entry()}).encode().ljust(MAX_HEADER_BYTES)
    assert check(file_of(padded, b"\0" * 8), chunk=2**22).total_bytes == 8 + len(padded) + 8
    deep = {"w": entry(shape=[1] * (MAX_DIMENSIONS - 1) + [2])}
    assert check(file_of(deep, b"\0" * 8)).total_bytes
    many = {f"{n}": entry("U8", [0], [0, 0]) for n in range(MAX_TENSORS)}
    assert len(read_header(file_of(many)).tensors) == MAX_TENSORS
    with pytest.raises(BadWeights, match="has more than"):
        read_header(file_of(many | {"one more": entry("U8", [0], [0, 0])}))


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**64 - 1, MAX_HEADER_BYTES + 1])
def test_a_lying_header_length_is_refused_at_once(length):
    with pytest.raises(BadWeights):
        UpdateCheck().feed(file_of({}, length=length))


@given(st.binary(max_size=200))
def test_noise_is_refused_and_never_crashes(noise):
    with pytest.raises(BadWeights):
        check(noise)


@given(st.data())
def test_a_flipped_header_byte_is_refused_or_means_the_same_size(data):
    file = bytearray(safetensors.numpy.save(WEIGHTS))
    end = header_length(bytes(file[:8]))
    place = data.draw(st.integers(0, end - 1))
    file[place] ^= data.draw(st.integers(1, 255))
    try:
        layout = check(bytes(file), chunk=64)
    except BadWeights:
        return
    assert layout.total_bytes == len(file)
