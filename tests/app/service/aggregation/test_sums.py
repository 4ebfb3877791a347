"""The sums of a span are the plain sum's bytes, whatever the files and the parts they came in."""

import hashlib

import numpy as np
import pytest

from app.service.files.own_files import own_arrays, put_array
from app.service.files.readers import FileReader
from serverless_fl.aggregation.mean import WeightedMean
from serverless_fl.aggregation.strategy import MAX_WEIGHT
from serverless_fl.domain.records import Blob, part_key
from serverless_fl.weights import codec, spans
from serverless_fl.weights.header import NUMPY_TYPES, Layout, TensorSpec, layout_of
from tests.support import raw_file
from tests.support.some import some

# As names and kinds come: neighbours of one dtype, odd sizes, and floats on odd addresses.
TENSORS = {
    "a": ("F32", 5),
    "b": ("F32", 1003),
    "mask": ("BOOL", 3),
    "c": ("F32", 7),
    "d": ("F32", 30_001),
    "byte": ("U8", 1),
    "e": ("F64", 17),
    "f": ("F16", 33),
    "g": ("F16", 1),
    "h": ("BF16", 65),
    "i": ("BF16", 2),
    "steps": ("I64", 2),
    "more": ("U64", 1),
    "empty": ("F32", 0),
    "j": ("F32", 9),
}
COUNTS = (1, 7, 3, 2**29 + 1, MAX_WEIGHT - 2**29 - 12)
# 0.0 with both signs, the least and the largest numbers.
SPECIAL = {
    "F64": [-0.0, 0.0, 5e-324, -2.2e-308, 1e290, -1e290],
    "F32": [-0.0, 0.0, 1e-45, -1.1e-38, 3.4028235e38, -3.4028235e38],
    "F16": [-0.0, 0.0, 6e-8, 65504.0, -65504.0],
}


class Memory:
    """A blob store."""

    def __init__(self):
        self.kept = {}

    async def put(self, key, data):
        self.kept[key] = bytes(data)

    async def get(self, key):
        return self.kept.get(key)

    async def cut(self, prefix, data, part_bytes):
        """Store a file in parts of this size."""
        parts = [data[at : at + part_bytes] for at in range(0, len(data), part_bytes)]
        digests = [hashlib.sha256(part).hexdigest() for part in parts]
        for number, (part, digest) in enumerate(zip(parts, digests, strict=True)):
            await self.put(part_key(prefix, number, digest), part)
        sizes = tuple(map(len, parts))
        return Blob(prefix=prefix, sha256="", parts=tuple(digests), sizes=sizes)


def values(dtype, size, draw):
    if dtype == "BOOL":
        return draw.integers(0, 2, size).astype(bool)
    if dtype == "BF16":
        return draw.integers(0, 0x7F80, size).astype(np.uint16)
    kind = np.dtype(NUMPY_TYPES[dtype])
    if kind.kind != "f":
        limits = np.iinfo(kind)
        low, high = max(limits.min, -(2**21)), min(limits.max, 2**21)  # sums below 2**53
        return draw.integers(low, high, size, kind, endpoint=True)
    found = draw.standard_normal(size).astype(kind)
    special = SPECIAL[dtype][:size]
    found[: len(special)] = special
    return found


def file_of(tensors, order, remark=""):
    """A safetensors file with the tensors in this order."""
    entries, body = {"__metadata__": {"remark": remark}}, b""
    for name in order:
        data = tensors[name].tobytes()
        entries[name] = {
            "dtype": TENSORS[name][0],
            "shape": list(tensors[name].shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    return raw_file.file_of(entries, body)


def wide(name, array):
    if TENSORS[name][0] == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return array.astype(np.float64)


def plain(updates):
    """The sums as anybody would form them: from the left to the right, tensor by tensor."""
    sums = {}
    for tensors, count in updates:
        for name, array in tensors.items():
            sums[name] = sums.get(name, np.zeros(array.size)) + wide(name, array) * float(count)
    return sums


def a_model(seed):
    draw = np.random.default_rng(seed)
    return {name: values(dtype, size, draw) for name, (dtype, size) in TENSORS.items()}


async def sums_of(blobs, layout, files, span_bytes):
    """The kept sums of all spans, by tensor name."""
    found = {name: [] for name in TENSORS}
    for number, span in enumerate(spans.cut(layout, span_bytes)):
        mean = WeightedMean(spans.elements(span))
        for blob, own, count in files:
            source = FileReader(blobs, blob, own, offset=len(own.header))
            mean.add(await source.read(span), count)
        kept = await put_array(blobs, f"sums/{number}", mean.partial(), span_bytes)
        assert max(kept.sizes, default=0) <= span_bytes
        data = b"".join([await blobs.get(kept.key(part)) for part in range(len(kept.parts))])
        for name, array in spans.by_tensor(span, np.frombuffer(data)).items():
            found[name].append(array)
    return {name: np.concatenate(kept) for name, kept in found.items() if kept}


@pytest.mark.parametrize("span_bytes", [1001, 70_001, 2**23])
@pytest.mark.parametrize("part_bytes", [2**23, 9_999])
@pytest.mark.parametrize("order", [list(TENSORS), sorted(TENSORS, reverse=True)])
async def test_sums_are_those_of_plain_arithmetic_to_the_bit(span_bytes, part_bytes, order):
    """Of any order of the tensors in the updates' own files, and however those are cut."""
    blobs, updates, files = Memory(), [], []
    layout = layout_of(file_of(a_model(0), TENSORS))
    for number, count in enumerate(COUNTS):
        tensors = a_model(number)
        updates.append((tensors, count))
        data = file_of(tensors, order, remark="." * number)  # so that it lies on any address
        blob = await blobs.cut(f"updates/{number}", data, part_bytes)
        files.append((blob, layout_of(data), count))
    found = await sums_of(blobs, layout, files, span_bytes)
    for name, expected in some(plain(updates).items()):
        if not expected.size:
            assert name not in found
        else:
            assert found[name].tobytes() == expected.tobytes(), name


SPAN = spans.whole(
    Layout(
        b"",
        (
            TensorSpec("w", "F32", (3,), 0, 12),
            TensorSpec("n", "I64", (2,), 12, 28),
            TensorSpec("v", "F32", (1,), 28, 32),
        ),
        {},
    )
)


async def test_another_process_goes_on_from_stored_sums():
    blobs = Memory()
    update = [
        np.array([1.5, -2.0, 0.25], np.float32),
        np.array([2**40 + 1, -1]),
        np.array([0.5], np.float32),
    ]
    first = WeightedMean(6)
    first.add(update, 3)
    kept = await put_array(blobs, "sums/first", first.partial(), 24)
    assert kept.sizes == (24, 24)

    second = WeightedMean(6)
    second.merge(await own_arrays(blobs, kept), 3)
    second.add([values * 2 for values in update], 1)
    rounded = codec.round_integers(SPAN, spans.by_tensor(SPAN, second.result()))
    w, n, v = (
        np.frombuffer(part, dtype)
        for part, dtype in zip(
            np.split(np.frombuffer(codec.pack(SPAN, rounded), np.uint8), [12, 28]),
            ("<f4", "<i8", "<f4"),
            strict=True,
        )
    )
    assert w.tolist() == [1.875, -2.5, 0.3125]
    assert n.tolist() == [round(5 * (2**40 + 1) / 4), -1]
    assert v.tolist() == [0.625]


async def test_an_update_with_other_numbers_of_values_is_refused():
    ok = [np.ones(3, np.float32), np.ones(2, np.int64), np.ones(1, np.float32)]
    for wrong in (ok[:2], [*ok, np.ones(1, np.float32)], [ok[0], ok[1][:1], ok[2]]):
        with pytest.raises(ValueError, match=r"values|tensors"):
            WeightedMean(6).add(wrong, 1)
