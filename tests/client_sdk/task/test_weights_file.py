"""Named arrays as safetensors bytes, beside the safetensors library's own."""

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from client_sdk.errors import DataError
from client_sdk.task import weights_file

TYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


def arrays():
    draws = np.random.default_rng(0)
    found = {f"{n}.{t}": draws.integers(0, 2, (3, 2)).astype(t) for n in "bac" for t in TYPES}
    return found | {"scalar": np.array(3.0), "empty": np.zeros((0, 3), np.float32)}


def test_the_bytes_are_those_of_the_library():
    narrow = torch.tensor([1.5, -2.0]).bfloat16()
    tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays().items()}
    expected = safetensors.torch.save(tensors | {"narrow": narrow})
    bits = narrow.view(torch.uint16).numpy().view(weights_file.BFLOAT16)
    assert weights_file.write(arrays() | {"narrow": bits}) == expected
    read = weights_file.read(expected)
    assert read.keys() == tensors.keys() | {"narrow"}
    assert all(np.array_equal(read[name], array) for name, array in arrays().items())
    assert all(read[name].dtype == array.dtype for name, array in arrays().items())
    assert np.array_equal(read["narrow"], bits)


def test_metadata_travel_and_their_order_does_not_matter():
    one = weights_file.write({"w": np.zeros(2)}, {"b": "2", "a": "1"})
    assert one == weights_file.write({"w": np.zeros(2)}, {"a": "1", "b": "2"})
    assert weights_file.read_layout(one).metadata == {"a": "1", "b": "2"}
    assert np.array_equal(safetensors.numpy.load(one)["w"], np.zeros(2))


def test_big_endian_and_strided_arrays_are_written_by_value():
    values = np.arange(12.0).reshape(3, 4)
    expected = weights_file.write({"w": values[:, ::2].copy()})
    assert weights_file.write({"w": values[:, ::2]}) == expected
    assert weights_file.write({"w": values[:, ::2].astype(">f8")}) == expected


def test_what_is_read_can_be_changed():
    data = weights_file.write({"w": np.zeros(2)})
    read = weights_file.read(data)
    read["w"] += 1
    assert weights_file.read(data)["w"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "with at least one"),
        ([1.0], "a dict of named arrays"),
        ({"w": [1.0]}, "a list, not a NumPy array"),
        ({3: np.zeros(1)}, "name of a tensor is a string, not 3"),
        ({"w": np.array(["a"])}, "only numbers travel"),
        ({"w": np.zeros(1, complex)}, "only numbers travel"),
        ({"w": np.array([object()])}, "only numbers travel"),
    ],
)
def test_what_are_no_weights_is_refused(weights, message):
    with pytest.raises(DataError, match=message):
        weights_file.write(weights)
