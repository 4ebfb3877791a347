"""The sums of a span: the plain sum's bytes, of whatever files and parts, and stored as ever."""

import hashlib
import json
import struct

import numpy as np
import pytest

from app.aggregation.fedavg import MAX_EXAMPLES
from app.domain.records import Blob, part_key
from app.service.running import Running
from app.service.sources import Source
from app.wire import codec, spans
from tests.some import some

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
COUNTS = (1, 7, 3, 2**29 + 1, MAX_EXAMPLES - 2**29 - 12)
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
    kind = np.dtype(codec.NUMPY_TYPES[dtype])
    if kind.kind != "f":
        limits = np.iinfo(kind)
        return draw.integers(limits.min, limits.max, size, kind, endpoint=True)
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
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + body


def wide(name, array):
    """In float64, or as Python's integers."""
    if TENSORS[name][0] == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return array.astype(np.float64 if array.dtype.kind == "f" else object)


def plain(updates):
    """The sums as anybody would form them: from the left to the right, tensor by tensor."""
    sums = {}
    for tensors, count in updates:
        for name, array in tensors.items():
            start = np.zeros(array.size, np.float64 if TENSORS[name][0] in codec.FLOATS else object)
            sums[name] = sums.get(name, start) + wide(name, array) * count
    return sums


def a_model(seed):
    draw = np.random.default_rng(seed)
    return {name: values(dtype, size, draw) for name, (dtype, size) in TENSORS.items()}


async def sums_of(blobs, layout, files, span_bytes):
    """What is kept of all spans, by tensor name and file: whole tensors, of pieces."""
    found = {name: [] for name in TENSORS}
    for number, span in enumerate(spans.cut(layout, span_bytes)):
        running = Running("fedavg", span, span_bytes)
        for blob, own, count in files:
            header_bytes = len(own.header)
            source = Source(blobs, blob, own, offset=header_bytes)
            await running.add(await source.runs(span), count)
        kept = await running.keep(blobs, f"sums/{number}")
        for part in range(len(kept.parts)):
            data = await blobs.get(kept.key(part))
            for name, array in spans.arrays(codec.layout_of(data), data):
                found[name].append(array if array.dtype.kind == "f" else array.reshape(2, -1))
    return {name: np.concatenate(kept, -1) for name, kept in found.items() if kept}


@pytest.mark.parametrize("span_bytes", [1001, 70_001, 2**23])
@pytest.mark.parametrize("part_bytes", [2**23, 9_999])
@pytest.mark.parametrize("order", [list(TENSORS), sorted(TENSORS, reverse=True)])
async def test_sums_are_those_of_plain_arithmetic_to_the_bit(span_bytes, part_bytes, order):
    """Of any order of the tensors in the updates' own files, and however those are cut."""
    blobs, updates, files = Memory(), [], []
    layout = codec.layout_of(file_of(a_model(0), TENSORS))
    for number, count in enumerate(COUNTS):
        tensors = a_model(number)
        updates.append((tensors, count))
        data = file_of(tensors, order, remark="." * number)  # so that it lies on any address
        blob = await blobs.cut(f"updates/{number}", data, part_bytes)
        files.append((blob, codec.layout_of(data), count))
    found = await sums_of(blobs, layout, files, span_bytes)
    for name, expected in some(plain(updates).items()):
        if not expected.size:
            assert name not in found
        elif expected.dtype == object:
            high, low = found[name].astype(object)
            assert list(high * 2**32 + low) == list(expected), name
        else:
            assert found[name].tobytes() == expected.tobytes(), name


@pytest.mark.parametrize("part_bytes", [2**23, 110_000, 5000, 501])
async def test_values_come_in_few_arrays_and_none_is_put_together_of_two_parts(part_bytes):
    """But for a tensor that lies in two parts itself."""
    blobs, tensors = Memory(), a_model(1)
    data = file_of(tensors, TENSORS)
    layout = codec.layout_of(data)
    source = Source(
        blobs, await blobs.cut("x", data, part_bytes), layout, offset=len(layout.header)
    )
    (span,) = spans.cut(layout, 2**30)
    runs = await source.runs(span)
    apart = [array for _, array in await source.read(span)]
    for kind in ("f", "biu"):
        of_runs = [run.astype(np.float64) for run in runs if run.dtype.kind in kind]
        alone = [array.astype(np.float64) for array in apart if array.dtype.kind in kind]
        assert np.concatenate(of_runs).tobytes() == np.concatenate(alone).tobytes()
    sizes = [run.size for run in runs]
    if part_bytes == 2**23:
        assert sizes == [1008, 3, 30_008, 1, 17, 34, 67, 2, 1, 9]
    else:
        assert set(sizes) <= {*(array.size for array in apart), 1008, 30_008, 34, 67}
    joined = list(spans.joined(span, [4 * 5]))
    assert [piece.last - piece.first for piece in joined][:2] == [5, 1003]


# What a round's coordinator stored of "w" = [1.5, -2.0, 0.25] * 3, "n" = [2**40 + 1, -1] * 3, and
# "v" = [0.5] * 3: a file of the version before values were joined, as it was written then.
HEADER = (
    b'{"w": {"dtype": "F64", "shape": [3], "data_offsets": [0, 24]}, '
    b'"n": {"dtype": "I64", "shape": [4], "data_offsets": [24, 56]}, '
    b'"v": {"dtype": "F64", "shape": [1], "data_offsets": [56, 64]}}'
)
STORED = (
    struct.pack("<Q", len(HEADER) + -len(HEADER) % 8)
    + HEADER
    + b" " * (-len(HEADER) % 8)
    + struct.pack("<3d", 4.5, -6.0, 0.75)
    + struct.pack("<4q", 3 * 2**8, -3, 3, 3 * (2**32 - 1))
    + struct.pack("<d", 1.5)
)
LIKE_STORED = codec.Layout(
    b"",
    (
        codec.TensorSpec("w", "F32", (3,), 0, 12),
        codec.TensorSpec("n", "I64", (2,), 12, 28),
        codec.TensorSpec("v", "F32", (1,), 28, 32),
    ),
    {},
)


async def test_sums_are_stored_as_ever_and_those_that_are_stored_are_gone_on_from():
    """A round that is open while the coordinator is replaced loses nothing."""
    blobs = Memory()
    span = spans.whole(LIKE_STORED)
    update = [
        np.array([1.5, -2.0, 0.25], np.float32),
        np.array([2**40 + 1, -1]),
        np.array([0.5], np.float32),
    ]
    new = Running("fedavg", span, 2**20)
    await new.add(update, 3)
    kept = await new.keep(blobs, "sums/new")
    assert blobs.kept[kept.key(0)] == STORED

    old = await blobs.cut("sums/old", STORED, 2**20)
    going_on = Running("fedavg", span, 2**20)
    await going_on.merge(blobs, old, 3)
    await going_on.add([values * 2 for values in update], 1)
    w, n, v = (
        np.frombuffer(part, dtype)
        for part, dtype in zip(
            np.split(np.frombuffer(going_on.result(b""), np.uint8), [12, 28]),
            ("<f4", "<i8", "<f4"),
            strict=True,
        )
    )
    assert w.tolist() == [1.875, -2.5, 0.3125]
    assert n.tolist() == [round(5 * (2**40 + 1) / 4), -1]
    assert v.tolist() == [0.625]


async def test_an_update_with_other_numbers_of_values_is_refused():
    span = spans.whole(LIKE_STORED)
    ok = [np.ones(3, np.float32), np.ones(2, np.int64), np.ones(1, np.float32)]
    for wrong in (ok[:2], [*ok, np.ones(1, np.float32)], [ok[0], ok[1][:1], ok[2]]):
        with pytest.raises(ValueError, match=r"values|tensors"):
            await Running("fedavg", span, 2**20).add(wrong, 1)
