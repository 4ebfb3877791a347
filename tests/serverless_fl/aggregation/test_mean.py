"""The weighted mean, with numbers that can be checked by hand."""

import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from serverless_fl.aggregation.mean import WeightedMean
from serverless_fl.weights import codec, spans
from serverless_fl.weights.header import layout_of
from tests.audit import averages


def average(*updates):
    """Of (weights, examples) pairs, through the bytes that really travel."""
    files = [(safetensors.numpy.save(weights), n) for weights, n in updates]
    layout = layout_of(files[0][0])
    span = spans.whole(layout)
    strategy = WeightedMean(spans.elements(span))
    for data, n in files:
        strategy.add([values for _, values in codec.arrays(layout, data)], n)
    means = codec.round_integers(span, spans.by_tensor(span, strategy.result()))
    return safetensors.numpy.load(layout.header + codec.pack(span, means))


def one(value, dtype):
    return {"w": np.array([value], dtype)}


def test_the_mean_is_weighted_by_examples():
    result = average(
        ({"w": np.array([[1.0, 2.0]], np.float32)}, 1),
        ({"w": np.array([[4.0, 8.0]], np.float32)}, 3),
    )
    np.testing.assert_array_equal(result["w"], np.array([[3.25, 6.5]], np.float32))


def test_a_single_update_comes_out_as_it_went_in():
    weights = {"w": np.random.default_rng(0).normal(size=1000).astype(np.float32)}
    np.testing.assert_array_equal(average((weights, 77))["w"], weights["w"])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_dtype_is_kept_and_the_sum_does_not_overflow_it(dtype):
    most = np.finfo(dtype).max / 4 if dtype is np.float64 else np.finfo(dtype).max
    result = average((one(most, dtype), 2), (one(most, dtype), 1))
    assert result["w"].dtype == dtype
    assert result["w"][0] == dtype(most)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([(1, 1), (2, 1)], 2),
        ([(2, 1), (3, 1)], 2),
        ([(10, 3), (20, 1)], 12),
        ([(-1, 1), (-2, 1)], -2),
    ],
)
def test_counters_are_averaged_exactly_and_rounded_ties_to_even(values, mean):
    result = average(*((one(v, np.int64), n) for v, n in values))
    assert result["w"].dtype == np.int64
    assert result["w"][0] == mean


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int8, np.uint8, np.int32])
def test_integers_at_their_limits_stay_there(dtype):
    """The largest of 64 bits: but for what float64 does not tell apart."""
    limits = np.iinfo(dtype)
    for value in (limits.min, limits.max):
        mean = int(average((one(value, dtype), 5), (one(value, dtype), 2**20))["w"][0])
        assert mean == value or (value > 2**53 and 0 < value - mean < value / 2**52)


@given(
    st.lists(st.tuples(st.integers(-(2**28), 2**28), st.integers(1, 2**20)), min_size=1, max_size=8)
)
def test_integer_means_are_those_of_unbounded_arithmetic(pairs):
    total, count = sum(v * n for v, n in pairs), sum(n for _, n in pairs)
    floor, rest = divmod(total, count)
    expected = floor + (2 * rest > count or (2 * rest == count and floor % 2 == 1))
    assert average(*((one(v, np.int64), n) for v, n in pairs))["w"][0] == expected


def test_masks_go_with_the_majority_of_examples():
    assert average((one(True, np.bool_), 3), (one(False, np.bool_), 2))["w"][0]
    assert not average((one(True, np.bool_), 2), (one(False, np.bool_), 3))["w"][0]


def test_the_same_updates_in_the_same_order_give_the_same_bytes():
    rng = np.random.default_rng(1)
    updates = [({"w": rng.normal(size=(300, 400)).astype(np.float32)}, n) for n in (3, 9, 27)]
    assert average(*updates)["w"].tobytes() == average(*updates)["w"].tobytes()


def test_it_equals_numpys_own_average():
    rng = np.random.default_rng(2)
    arrays = [rng.normal(size=200_000).astype(np.float32) for _ in range(5)]
    counts = [10, 20, 30, 5, 1]
    expected = np.average(np.array(arrays, np.float64), axis=0, weights=counts)
    result = average(*(({"w": a}, n) for a, n in zip(arrays, counts, strict=True)))
    np.testing.assert_array_equal(result["w"], expected.astype(np.float32))


@pytest.mark.parametrize("count", [0, -1, -0.5, float("nan"), 2**30 + 1])
def test_counts_out_of_range_are_refused(count):
    with pytest.raises(ValueError, match="weight"):
        WeightedMean(1).add([np.ones(1, np.float32)], count)


def test_nothing_to_average_is_an_error():
    with pytest.raises(ValueError, match="nothing"):
        WeightedMean(1).result()


@pytest.mark.parametrize(
    "other",
    [
        [np.ones(2, np.float32)],
        [np.ones(4, np.float32)],
        [np.ones(3, np.float32), np.ones(1, np.int32)],
        [np.ones(3, np.float32), np.ones(3, np.float32)],
        [],
    ],
)
def test_updates_with_other_tensors_are_refused(other):
    for before in range(2):
        mean = WeightedMean(3)
        for _ in range(before):
            mean.add([np.ones(3, np.float32)], 1)
        with pytest.raises(ValueError, match="different tensors"):
            mean.add(other, 1)


def test_memory_does_not_grow_with_the_number_of_updates():
    data = safetensors.numpy.save({"w": np.ones(1_000_000, np.float32)})

    def peak(updates):
        tracemalloc.start()
        span = spans.whole(layout_of(data))
        mean = WeightedMean(spans.elements(span))
        for _ in range(updates):
            mean.add([np.frombuffer(data, np.float32, 1_000_000, len(data) - 4_000_000)], 1)
        codec.pack(span, spans.by_tensor(span, mean.result()))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(20) < 1.02 * peak(2)
    # The accumulator (float64: two models) and the result; the update itself is the caller's.
    assert peak(5) < 3.3 * len(data)


@pytest.mark.parametrize("updates", [1, 3])
def test_zeros_have_no_sign_in_the_mean(updates):
    """0.0 and -0.0 are both 0.0."""
    mean = average(*[(one(-0.0, np.float32), 5)] * updates)["w"]
    assert mean.tobytes() == np.zeros(1, np.float32).tobytes()


@pytest.mark.parametrize("size", [1, 262_143, 262_144, 262_145, 600_000])
def test_chunks_change_no_bit(size):
    draw = np.random.default_rng(size)
    arrays = [draw.normal(size=size).astype(np.float32) for _ in range(3)]
    total = np.zeros(size)
    for n, array in enumerate(arrays):
        total += array.astype(np.float64) * float(n + 1)
    result = average(*(({"w": array}, n + 1) for n, array in enumerate(arrays)))
    assert result["w"].tobytes() == (total / 6).astype(np.float32).tobytes()


def test_it_is_as_exact_as_float64_beside_fractions():
    assert averages.fedavg_error(seed=0, values=50, updates=6) < 2**-51
