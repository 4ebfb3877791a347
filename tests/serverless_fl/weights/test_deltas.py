"""Deltas: what is written is right on average, within a step, and added to the base model."""

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from serverless_fl.domain.errors import BadWeights
from serverless_fl.weights import codec, encodings, spans
from serverless_fl.weights.check import UpdateCheck
from serverless_fl.weights.deltas import LARGEST, add_delta, decompress_values, encode_update
from serverless_fl.weights.header import Layout, layout_of, read_header, write_header
from tests.audit import averages
from tests.support.raw_file import file_of, parts_of

ENCODINGS = list(encodings.UPDATE_ENCODINGS)


def model(seed: int, scale: float = 1.0, **more: np.ndarray) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        "layer.weight": (scale * draw.normal(size=(40, 30))).astype(np.float32),
        "layer.bias": (scale * draw.normal(size=30)).astype(np.float32),
        "half": (scale * draw.normal(size=9)).astype(np.float16),
        "wide": scale * draw.normal(size=9),
        "steps": draw.integers(0, 2**60, size=5),
        "mask": np.array([True, False, True]),
        "empty": np.zeros((0, 4), np.float32),
        **more,
    }


BASE = model(1)
FILE = safetensors.numpy.save(BASE, {"who": "we"})
LAYOUT = layout_of(FILE)


def near(seed: int, by: float = 0.01) -> dict[str, np.ndarray]:
    """What a client might have trained: the base model, moved a little."""
    draw = np.random.default_rng(seed)
    moved = {
        n: (v + by * draw.normal(size=v.shape)).astype(v.dtype) if v.dtype.kind == "f" else v
        for n, v in BASE.items()
    }
    return moved | {"steps": BASE["steps"] + 1}


def decoded(data: bytes, encoding: str, base: dict[str, np.ndarray] = BASE) -> dict:
    """By the library's reader, and the formula of docs/decisions/0018."""
    found = safetensors.numpy.load(data)
    scales = found.pop(encodings.SCALES, None)
    floats = [n for n in codec_order(base) if base[n].dtype.kind == "f"]
    for place, name in enumerate(floats):
        scale = 1.0 if scales is None else float(scales[place])
        found[name] = found[name].astype(np.float64) * scale + base[name]
    return found


def codec_order(base: dict[str, np.ndarray]) -> list[str]:
    return [t.name for t in layout_of(safetensors.numpy.save(base)).tensors]


def judged(data: bytes, encoding: str, chunk: int = 64) -> Layout:
    check = UpdateCheck(encodings.encoded_layout(LAYOUT, encoding))
    for start in range(0, len(data), chunk):
        check.feed(data[start : start + chunk])
    return check.finish()


@pytest.mark.parametrize(
    ("encoding", "error"),
    [("delta-float32", 2**-24), ("delta-float16", 2**-11), ("delta-int8", 1 / 127)],
)
def test_a_delta_is_what_the_library_reads_and_as_near_as_its_bits_allow(encoding, error):
    trained = near(2)
    data = encode_update(FILE, safetensors.numpy.save(trained), encoding, seed=3)
    assert judged(data, encoding).header == encodings.encoded_layout(LAYOUT, encoding).header
    found = decoded(data, encoding)
    for name, values in trained.items():
        if values.dtype.kind == "f" and values.size:
            largest = np.abs(values.astype(np.float64) - BASE[name]).max()
            np.testing.assert_allclose(found[name], values, rtol=0, atol=largest * error * 1.001)
        else:
            np.testing.assert_array_equal(found[name], values)
            assert found[name].dtype == values.dtype or values.dtype.kind == "f"


def test_int8_takes_a_quarter_of_float32_and_float16_a_half():
    big = {"w": np.zeros(21_840, np.float32)}
    base = safetensors.numpy.save(big)
    sizes = [len(encode_update(base, base, encoding, 0)) for encoding in ENCODINGS]
    assert sizes[1] / sizes[0] < 0.51
    assert sizes[2] / sizes[0] < 0.26
    assert sizes[0] < len(base) + 64


def test_the_same_seed_gives_the_same_bytes_and_another_one_others():
    trained = safetensors.numpy.save(near(2))
    once, again, other = (encode_update(FILE, trained, "delta-int8", seed) for seed in (5, 5, 6))
    assert once == again != other


def test_int8_is_right_on_average_and_values_are_rounded_independently():
    errors = averages.int8_errors(2000)
    assert averages.bias(errors) < 5
    assert averages.dependence(errors) < 6
    # Rounded to the nearest, a tenth of the values would be off by more than that for ever, and
    # all draws would have the same errors.
    nearest = np.broadcast_to(np.rint(averages.VALUES * 127) - averages.VALUES * 127, errors.shape)
    assert averages.bias(nearest) > 5


def test_errors_that_depend_on_each_other_are_seen():
    shared = np.random.default_rng(0).uniform(-1, 1, (500, 1)).repeat(3, axis=1)
    assert averages.dependence(shared) > 20


@given(
    st.lists(st.floats(-(2.0**110), 2.0**110, width=32), min_size=1, max_size=30),
    st.sampled_from(ENCODINGS[1:]),
    st.integers(0, 2**63),
)
def test_no_value_is_off_by_more_than_a_step(values, encoding, seed):
    exact = np.array(values, np.float32)
    base = {"w": np.zeros(len(values), np.float32)}
    raw = encode_update(
        safetensors.numpy.save(base), safetensors.numpy.save({"w": exact}), encoding, seed
    )
    top = float(np.abs(exact).max())
    step = max(top / 127 if encoding == "delta-int8" else top * 2**-10, 2**-125)
    assert np.abs(decoded(raw, encoding, base)["w"] - exact).max() <= step * 1.001


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-38, 1e-12, 60000.0, 70000.0, 1e30])
def test_values_of_any_size_find_a_scale(encoding, value):
    base = {"w": np.zeros(4, np.float32)}
    trained = {"w": np.array([value, -value, value / 3, 0], np.float32)}
    data = encode_update(*map(safetensors.numpy.save, (base, trained)), encoding, 0)
    found = decoded(data, encoding, base)["w"]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, trained["w"], rtol=0, atol=value / 127 + 2**-126)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_weights_that_diverged_are_refused_as_they_are_without_an_encoding(encoding, bad):
    base = dict(BASE)
    if bad == 3e38:  # finite by itself, but not what it differs by
        base["layer.bias"] = np.full(30, -3e38, np.float32)
    trained = near(2)
    trained["layer.bias"][7] = bad
    data = encode_update(safetensors.numpy.save(base), safetensors.numpy.save(trained), encoding, 0)
    with pytest.raises(BadWeights, match="NaN or infinity") as refused:
        judged(data, encoding)
    assert refused.value.code == "non-finite"


def test_other_tensors_than_the_base_models_are_no_delta():
    other = near(2) | {"layer.bias": np.zeros(31, np.float32)}
    with pytest.raises(BadWeights, match=r"layer\.bias"):
        encode_update(FILE, safetensors.numpy.save(other), "delta-int8", 0)


def test_an_encoding_that_nobody_knows_is_an_error():
    with pytest.raises(BadWeights, match="no encoding 'delta-int4'"):
        encode_update(FILE, FILE, "delta-int4", 0)


def test_a_model_may_not_have_a_tensor_of_the_scales_name():
    layout = layout_of(safetensors.numpy.save(model(1, **{encodings.SCALES: np.zeros(1)})))
    assert encodings.encoded_layout(layout, "delta-float32").tensors
    with pytest.raises(BadWeights, match="__scales__"):
        encodings.encoded_layout(layout, "delta-int8")


def tampered(data: bytes, change) -> bytes:
    """A delta with another header, or other tensors."""
    header, body = parts_of(data)
    changing = bytearray(body)
    change(header, changing)
    return file_of(header, bytes(changing))


def scale_of(value: float):
    def change(header, body):
        body[:4] = np.float32(value).tobytes()

    return change


def without_scales(header, body):
    size = header.pop(encodings.SCALES)["data_offsets"][1]
    del body[:size]
    for name, entry in header.items():
        if name != "__metadata__":
            entry["data_offsets"] = [place - size for place in entry["data_offsets"]]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (scale_of(np.nan), "non-finite"),
        (scale_of(np.inf), "non-finite"),
        (scale_of(-1.0), "bad-scale"),
        (scale_of(1e38), "bad-scale"),
        (without_scales, "layout-mismatch"),
        (lambda header, _: header[encodings.SCALES].update(dtype="I32"), "layout-mismatch"),
        (lambda header, _: header[encodings.SCALES].update(shape=[5, 1]), "layout-mismatch"),
        (lambda header, _: header["layer.weight"].update(dtype="U8"), "layout-mismatch"),
        (lambda header, _: header.pop("__metadata__"), "encoding-mismatch"),
        (lambda header, _: header.update(__metadata__={}), "encoding-mismatch"),
        (
            lambda header, _: header["__metadata__"].update({encodings.KEY: "delta-float16"}),
            "encoding-mismatch",
        ),
    ],
)
@pytest.mark.parametrize("chunk", [1, 10**6])
def test_a_delta_that_lies_is_refused(change, code, chunk):
    honest = encode_update(FILE, safetensors.numpy.save(near(2)), "delta-int8", 0)
    assert judged(honest, "delta-int8", chunk)
    with pytest.raises(BadWeights) as refused:
        judged(tampered(honest, change), "delta-int8", chunk)
    assert refused.value.code == code


@pytest.mark.parametrize("expected", ["weights", *ENCODINGS])
@pytest.mark.parametrize("sent", ["weights", *ENCODINGS])
def test_a_file_of_another_encoding_is_refused(expected, sent):
    data = encode_update(FILE, safetensors.numpy.save(near(2)), sent, 0)
    if expected == sent:
        assert judged(data, expected)
        return
    with pytest.raises(BadWeights, match=f"as {expected}, but this update is {sent}") as refused:
        judged(data, expected)
    assert refused.value.code == "encoding-mismatch"


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_what_a_hostile_delta_restores_is_finite_in_the_models_dtype(dtype):
    base = np.array([LARGEST[dtype], -LARGEST[dtype], 0.0])
    delta = np.array([127, -127, 1], np.int8)
    found = add_delta(delta, encodings.MAX_SCALE, base, dtype)
    layout = read_header(write_header([("w", dtype, [3])]))
    ((_, back),) = codec.arrays(
        layout, layout.header + bytes(codec.pack(spans.whole(layout), {"w": found}))
    )
    assert np.isfinite(back.astype(np.float64)).all()
    assert back[0] == LARGEST[dtype] == -back[1]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("BF16", [0.10009765625, -0.30078125, 12.6875]),  # 205 / 2048, 154 / 512, 203 / 16
        ("F16", [0.0999755859375, -0.300048828125, 12.703125]),
        ("F64", [0.1, -0.3, 12.7]),
    ],
)
def test_a_compressed_model_comes_back_in_the_nearest_values_of_its_dtype(dtype, values):
    found = decompress_values(np.array([1, -3, 127], np.int8), 0.1, dtype)
    assert found.dtype == {"BF16": np.float32, "F16": np.float16, "F64": np.float64}[dtype]
    np.testing.assert_allclose(found.astype(np.float64), values, rtol=1e-15)


@given(st.data())
def test_a_flipped_byte_is_refused_or_restores_finite_weights(data):
    """The digest would tell; what it would not tell is a client that means it."""
    encoding = data.draw(st.sampled_from(ENCODINGS))
    file = bytearray(encode_update(FILE, safetensors.numpy.save(near(2)), encoding, 0))
    place = data.draw(st.integers(0, len(file) - 1))
    file[place] ^= data.draw(st.integers(1, 255))
    try:
        layout = judged(bytes(file), encoding, 512)
    except BadWeights:
        return
    values = dict(codec.arrays(layout, bytes(file)))
    scales = values.pop(encodings.SCALES, np.ones(9))
    for name, scale in zip(encodings.float_names(LAYOUT), scales, strict=False):
        dtype = next(t.dtype for t in LAYOUT.tensors if t.name == name)
        restored = add_delta(values[name], float(scale), BASE[name].reshape(-1), dtype)
        assert np.isfinite(restored).all()
